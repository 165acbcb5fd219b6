// The tree of takes: each below the one that it goes on from.
import { $, exact, make } from "./api.js";

const closed = new Set(JSON.parse(sessionStorage.getItem("closed") || "[]"));
let items = [];  // what is shown, in order: {take, depth, children}
let choose = () => {};
let selected = "";

export const key = (run, sample) => `${run.name}/${sample}`;
export const title = (run, take) => take.title || (run.takes.length > 1 ? `${run.name} · ${take.sample + 1}` : run.name);

export function start(onChoose) {
  choose = onChoose;
  $("tree").onclick = (event) => {
    const item = event.target.closest("[role=treeitem]");
    if (!item) return;
    if (event.target.closest(".twig") && item.hasAttribute("aria-expanded")) fold(item.dataset.key, item.getAttribute("aria-expanded") === "true");
    else choose(item.dataset.key);
  };
  $("tree").onkeydown = (event) => {
    const at = items.findIndex((item) => item.key === event.target.dataset.key);
    if (at < 0) return;
    const { key: here, children } = items[at], open = children && !closed.has(here);
    const moves = {
      ArrowDown: () => focus(at + 1), ArrowUp: () => focus(at - 1), Home: () => focus(0), End: () => focus(items.length - 1),
      ArrowRight: () => (children && !open ? fold(here, false) : focus(at + 1)),
      ArrowLeft: () => (open ? fold(here, true) : focus(items.findLastIndex((item, index) => index < at && item.depth < items[at].depth))),
      Enter: () => choose(here), " ": () => choose(here),
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    moves[event.key]();
  };
}

function focus(at) {
  $("tree").children[Math.max(0, Math.min(items.length - 1, at))]?.focus();
}

let redraw = () => {};
function fold(which, close) {
  if (close) closed.add(which);
  else closed.delete(which);
  sessionStorage.setItem("closed", JSON.stringify([...closed]));
  redraw();
  $("tree").querySelector(`[data-key="${CSS.escape(which)}"]`)?.focus();
}

// The take before or after the chosen one, as shown.
export function beside(step) {
  const at = items.findIndex((item) => item.key === selected);
  return items[Math.max(0, Math.min(items.length - 1, at + step))]?.key;
}

export function draw(runs, chosen, { word, stars, hidden }) {
  redraw = () => draw(runs, selected, { word, stars, hidden });
  selected = chosen;
  const all = new Map(), below = new Map();
  for (const run of runs) for (const take of run.takes.length ? run.takes : [{ sample: 0, sounds: [] }]) all.set(key(run, take.sample), { run, take });
  for (const [name, { take }] of all) {
    const parent = all.has(take.parent) && take.parent !== name ? take.parent : "";
    if (!below.has(parent)) below.set(parent, []);
    below.get(parent).push(name);
  }
  const fits = ({ run, take }) => (hidden || !take.hidden) && (!stars || take.star)
    && (!word || `${title(run, take)} ${take.artist} ${take.genre} ${take.lyrics} ${take.note} ${run.model}`.toLowerCase().includes(word));
  const flat = word || stars;
  items = [];
  const walk = (parent, depth) => {
    for (const name of (below.get(parent) || []).toReversed()) {
      const fitting = fits(all.get(name)), children = below.has(name) && !flat;
      if (fitting) items.push({ key: name, depth: flat ? 0 : depth, children, ...all.get(name) });
      if (flat || (fitting && children && !closed.has(name))) walk(name, depth + 1);
    }
  };
  walk("", 0);
  const focused = document.activeElement?.dataset?.key;
  $("tree").replaceChildren(...items.map(leaf));
  if (focused) $("tree").querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  $("tree").hidden = !items.length;
  $("tree-empty").hidden = items.length > 0;
}

function leaf({ key: name, depth, children, run, take }, index) {
  const here = name === selected, anyHere = items.some((item) => item.key === selected);
  const busy = run.status === "running";
  const seconds = Math.max(0, ...take.sounds.map((sound) => sound.seconds || 0)) || run.seconds;
  const finest = Math.min(...take.sounds.map((sound) => sound.level), run.levels);
  const state = busy ? "being made" : run.status !== "finished" ? run.status : finest === 0 ? "finished" : "sketch";
  const words = [seconds ? exact(seconds) : "", state, take.genre && take.genre !== "unknown" ? take.genre : ""].filter(Boolean).join(" · ");
  const item = make("li", { role: "treeitem", tabIndex: here || (!anyHere && index === 0) ? 0 : -1, "aria-level": depth + 1, "aria-selected": here, className: take.hidden ? "is-hidden" : "" },
    make("span", { className: "twig", "aria-hidden": "true", textContent: children ? (closed.has(name) ? "▸" : "▾") : "" }),
    make("span", { className: "leaf" }, make("b", { textContent: title(run, take) }), make("small", { textContent: words })),
    busy ? make("span", { className: "pulse", "aria-hidden": "true" }) : null,
    take.star ? make("span", { className: "mark", textContent: "★", role: "img", "aria-label": "starred" }) : null);
  item.dataset.key = name;
  item.style.setProperty("--depth", depth);
  if (children) item.setAttribute("aria-expanded", String(!closed.has(name)));
  return item;
}

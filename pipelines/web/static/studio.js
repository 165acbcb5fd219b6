// The studio: the state of the page, and what happens when something does.
import { $, ask, clock, complain, confirmed, countQueue, guarded, later, listen, say, take as path } from "./api.js";
import * as forms from "./forms.js";
import * as player from "./player.js";
import * as tree from "./tree.js";
import { draw, drawWords } from "./take.js";

const state = { runs: new Map(), jobs: new Map(), chosen: "", wanted: null, copied: null, filter: { word: "", stars: false, hidden: false } };

const found = () => {
  const at = state.chosen.lastIndexOf("/");
  const run = state.runs.get(state.chosen.slice(0, at)), sample = Number(state.chosen.slice(at + 1));
  return { run, take: run?.takes[sample] };
};
const jobOf = (run) => [...state.jobs.values()].find((job) => job.run === run && !["finished", "stopped", "failed"].includes(job.status));
// How a take was made: the job that runs, or else the last one of its run that this server knows.
const commandOf = (run) => (jobOf(run) || [...state.jobs.values()].filter((job) => job.run === run).sort((a, b) => a.created.localeCompare(b.created)).at(-1))?.command || `jukebox runs show ${run}`;
const drawTake = (run, take, again) => draw(run, take, jobOf(run.name), state.copied, commandOf(run.name), again);
const runs = () => [...state.runs.values()];
const stamp = (run, take) => (take.preview && run.status !== "finished" ? take.preview : take.sounds[0]?.sha256?.slice(0, 16));

function drawTree() {
  tree.draw(runs(), state.chosen, state.filter);
}
const drawTreeSoon = later(drawTree, 60);

async function show({ from = 0, play = false } = {}) {
  const { run, take } = found();
  $("take").hidden = !take && !state.wanted;
  $("welcome").hidden = Boolean(take || state.wanted);
  if (!take) return;
  drawTake(run, take);
  const mark = stamp(run, take);
  if (mark) await player.load(run.name, take.sample, mark, { title: tree.title(run, take), from, play, keep: !play && !from && state.loaded === state.chosen });
  else player.unload(tree.title(run, take));
  state.loaded = state.chosen;
}

const choose = guarded(async (key, options = {}) => {
  if (key !== state.chosen) {
    state.chosen = key;
    history.replaceState(null, "", `/?take=${encodeURIComponent(key)}`);
  }
  state.wanted = null;
  drawTree();
  await show(options);
});

async function fetchRun(name) {
  try {
    state.runs.set(name, await ask(`runs/${encodeURIComponent(name)}`));
  } catch {
    state.runs.delete(name);
  }
}

const refreshAll = guarded(async () => {
  const [all, queue] = await Promise.all([ask("runs"), ask("jobs")]);
  state.runs = new Map(all.runs.map((run) => [run.name, run]));
  state.jobs = new Map(queue.jobs.map((job) => [job.id, job]));
  countQueue(queue.jobs);
  drawTree();
  await show();
});

// What was just asked for is chosen as soon as its folder exists, and plays as soon as there is something to hear.
function made(answer) {
  if (answer.finished) {
    say("That song exists already.");
    refreshAll().then(() => choose(`${answer.run}/0`, { play: true }));
    return;
  }
  state.wanted = answer.run;
  state.hear = answer.run;
  state.jobs.set(answer.job.id, answer.job);
  countQueue([...state.jobs.values()]);
  say("In the queue.");
  if (state.runs.has(answer.run)) choose(`${answer.run}/0`);
}

const changed = guarded(async ({ changed: names, removed }) => {
  removed.forEach((name) => state.runs.delete(name));
  await Promise.all(names.map(fetchRun));
  if (state.wanted && state.runs.has(state.wanted)) await choose(`${state.wanted}/0`);
  drawTreeSoon();
  const { run, take } = found();
  if (!run || !names.includes(run.name)) return;
  const first = state.hear === run.name && stamp(run, take);
  if (first) {
    state.hear = null;
    say("It can be heard.");
  }
  await show({ play: Boolean(first) });
});

function jobChanged(job) {
  state.jobs.set(job.id, { ...state.jobs.get(job.id), ...job });
  countQueue([...state.jobs.values()]);
  if (job.status === "failed") complain(new Error(job.error));
  if (job.status === "finished") say(`${job.title} is finished.`);
  const { run, take } = found();
  if (run && take && job.run === run.name) drawTake(run, take);
  if (job.status === "finished" && job.command.startsWith("jukebox transcribe") && run) drawTake(run, take, true);
}

const post = (what, body) => ask(`runs/${encodeURIComponent(found().run.name)}/${what}`, { method: "POST", body });
const mark = guarded(async (fields) => {
  const { run, take } = found();
  Object.assign(take, await ask(path(run.name, take.sample), { method: "PATCH", body: fields }));
  drawTree();
  drawTake(run, take);
});
const withTake = (work) => guarded(async () => { const { run, take } = found(); if (take) await work(run, take); });

const acts = {
  "new-song": () => forms.newSong(),
  "go-on": withTake((run, take) => forms.goOn(run, take, { keep: player.chosen()?.end, seconds: player.chosen() ? Math.max(run.seconds, player.chosen().end + 3) : run.seconds + 6 })),
  spread: withTake((run, take) => forms.goOn(run, take, { seconds: run.seconds + 6, spread: true, title: "Try several endings" })),
  upsample: withTake(async (_, take) => made(await post("upsample", { samples: [take.sample] }))),
  align: withTake(async () => { await post("align"); say("The words are being brought in time."); }),
  vary: withTake(async (_, take) => made(await post("vary", { sample: take.sample, seed: Math.floor(Math.random() * 1e6) }))),
  transcribe: withTake(async (_, take) => { await post("transcribe", { sample: take.sample }); say("The notes are being written."); }),
  stop: withTake(async (run) => jobChanged(await post("stop"))),
  resume: withTake(async (run) => { state.hear = null; made(await post("resume")); }),
  star: withTake((_, take) => mark({ star: !take.star })),
  hide: withTake((_, take) => mark({ hidden: !take.hidden })),
  rename: withTake(async (run, take) => { const name = await confirmed("Rename", "The name is shown here; the run's folder keeps its own.", { yes: "Rename", label: "Name", value: tree.title(run, take) }); if (name !== null) await mark({ title: name.trim() }); }),
  delete: withTake(async (run) => {
    const also = run.takes.length > 1 ? ` with its ${run.takes.length} takes` : "";
    if (!(await confirmed(`Delete ${run.name}?`, `The run${also} is removed from the disk. Takes that go on from it stay complete.`, { yes: "Delete" }))) return;
    await ask(`runs/${encodeURIComponent(run.name)}`, { method: "DELETE" });
    state.runs.delete(run.name);
    state.chosen = "";
    player.unload();
    drawTree();
    await show();
  }),
  compare: withTake(async (run, take) => {
    const beside = runs().flatMap((each) => each.takes.map((one) => ({ run: each, take: one }))).filter((each) => each.run.name === run.name || (take.parent && each.take.parent === take.parent));
    const next = beside[(beside.findIndex((each) => each.run === run && each.take.sample === take.sample) + 1) % beside.length];
    if (beside.length < 2) say("There is no take beside this one.");
    else await choose(tree.key(next.run, next.take.sample), { from: player.position(), play: !$("sound").paused });
  }),
  "region-play": () => player.playRegion(),
  "region-clear": () => player.clearRegion(),
  "region-keep": () => acts["go-on"](),
  "region-copy": withTake((run, take) => {
    state.copied = { run: run.name, sample: take.sample, from_seconds: player.chosen().start, to_seconds: player.chosen().end };
    drawTake(run, take);
    say("Copied. Choose a take and a moment, then insert it.");
  }),
  "region-cut": withTake((run, take) => {
    const { start, end } = player.chosen(), rest = [{ run: run.name, sample: take.sample, from_seconds: end }];
    forms.goOn(run, take, { keep: Math.max(start, 0.1), seconds: Math.max(1, player.duration() - (end - start)), pieces: rest, title: "Cut a region out" });
  }),
  paste: withTake((run, take) => {
    const length = state.copied.to_seconds - state.copied.from_seconds, at = player.position() > 0.2 ? player.position() : player.duration();
    forms.goOn(run, take, { keep: at, seconds: Math.max(run.seconds, at + length + 2), pieces: [state.copied], title: "Insert the copied range" });
  }),
};
for (const [id, act] of Object.entries(acts)) $(id).onclick = act;
$("note").onchange = () => mark({ note: $("note").value });
$("filter").oninput = later(() => { state.filter.word = $("filter").value.trim().toLowerCase(); drawTree(); }, 120);
for (const [id, name] of [["only-stars", "stars"], ["with-hidden", "hidden"]]) {
  $(id).onclick = () => { state.filter[name] = !state.filter[name]; $(id).setAttribute("aria-pressed", String(state.filter[name])); drawTree(); };
}
for (const button of document.querySelectorAll(".try-song")) button.onclick = guarded(() => forms.newSong(JSON.parse(button.dataset.song)));

const KEYS = { " ": player.toggle, n: acts["new-song"], g: acts["go-on"], u: acts.upsample, b: acts.compare, s: acts.stop, x: acts.star, h: acts.hide,
  ArrowLeft: () => player.seek(player.position() - 1), ArrowRight: () => player.seek(player.position() + 1),
  ArrowUp: () => choose(tree.beside(-1)), ArrowDown: () => choose(tree.beside(1)), "?": () => { location.href = "/help"; } };
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input, textarea, select, [contenteditable]") || (event.key === " " && event.target.closest("button, summary, a"))) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

player.on("time", drawWords);
tree.start((key) => choose(key));
forms.start(made);
listen({
  runs: changed, job: jobChanged, progress: jobChanged, reset: refreshAll,
  marks: ({ run, sample, ...fields }) => { const take = state.runs.get(run)?.takes[sample]; if (take) { Object.assign(take, fields); drawTreeSoon(); } },
});

const asked = new URLSearchParams(location.search);
await refreshAll();
const first = asked.get("take") || (runs().length ? tree.key(runs().at(-1), 0) : "");
if (first) await choose(first);
else await show();
if (asked.has("song")) document.querySelectorAll(".try-song")[Number(asked.get("song"))]?.click();
document.body.dataset.ready = "yes";

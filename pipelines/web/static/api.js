// Requests to the API, events from it, and the few helpers that every page needs.
export class Refused extends Error {
  constructor(answer) {
    super(answer.message || "the server did not answer as expected");
    this.problems = answer.problems?.length ? answer.problems : [{ key: "", message: this.message }];
  }
}

export async function ask(path, { method = "GET", body, raw } = {}) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  let answer;
  try {
    answer = await fetch(`/api/${path}`, { method, headers, body: raw ?? (body === undefined ? undefined : JSON.stringify(body)) });
  } catch {
    throw new Refused({ message: "the server does not answer; is `jukebox web` running?" });
  }
  if (answer.status === 204) return null;
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(found);
  return found;
}

export const take = (run, sample, what = "") => `runs/${encodeURIComponent(run)}/takes/${sample}${what}`;
export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function listen(handlers) {
  const events = new EventSource("/api/events");
  for (const [kind, handle] of Object.entries(handlers)) events.addEventListener(kind, (event) => handle(JSON.parse(event.data)));
  return events;
}

export function say(text) {
  $("live").textContent = text;
}

export function complain(error) {
  const notice = make("div", { textContent: error.message });
  $("notices").append(notice);
  setTimeout(() => notice.remove(), 9000);
}

export const guarded = (work) => async (...given) => {
  try {
    return await work(...given);
  } catch (error) {
    if (!(error instanceof Refused)) console.error(error);
    complain(error);
    return undefined;
  }
};

export const clock = (seconds) => {
  const whole = Math.max(0, seconds || 0) + 0.05;  // 8.99 s are nine
  return `${Math.floor(whole / 60)}:${String(Math.floor(whole % 60)).padStart(2, "0")}`;
};
export const exact = (seconds) => `${(Math.round(seconds * 100) / 100).toFixed(2)} s`;
export const bytes = (count) => {
  if (count === null || count === undefined) return "unknown";
  const units = ["B", "kB", "MB", "GB"];
  let at = 0;
  while (count >= 1000 && at < 3) { count /= 1000; at += 1; }
  return `${count >= 100 || at === 0 ? Math.round(count) : count.toFixed(1)} ${units[at]}`;
};

export function later(work, milliseconds) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}

export function countQueue(jobs) {
  const open = jobs.filter((job) => !["finished", "stopped", "failed"].includes(job.status)).length;
  $("queue-count").hidden = !open;
  $("queue-count").textContent = open;
}

export function confirmed(title, text, { yes = "Yes", label, value = "" } = {}) {
  const dialog = $("ask-dialog"), form = $("ask-form"), field = $("ask-label");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  field.hidden = !label;
  field.firstElementChild.textContent = label || "";
  form.elements.answer.value = value;
  dialog.showModal();
  return new Promise((resolve) => {
    form.onsubmit = () => resolve(label ? form.elements.answer.value : true);
    dialog.onclose = () => resolve(null);
    form.querySelector("[data-close]").onclick = () => dialog.close();
  });
}

// The queue: what runs, what waits, what is over.
import { $, ask, bytes, clock, countQueue, guarded, later, listen, make } from "./api.js";

const jobs = new Map();
const OVER = ["finished", "stopped", "failed"];

function shown(job) {
  const card = make("article", { className: "card job", "aria-label": `${job.title}, ${job.status}` });
  const button = (text, work) => make("button", { type: "button", textContent: text, onclick: guarded(async () => { keep(await ask(`jobs/${job.id}/${work}`, { method: "POST", body: work === "place" ? { place: "first" } : undefined })); refresh(); }) });
  const buttons = make("div", { className: "row" });
  if (job.status === "waiting") buttons.append(button("First", "place"));
  if (!OVER.includes(job.status) && job.status !== "stopping") buttons.append(button("Stop", "stop"));
  if (["stopped", "failed"].includes(job.status)) buttons.append(button("Resume", "resume"));
  const title = job.run ? make("a", { href: `/?take=${encodeURIComponent(job.run)}/0`, textContent: job.run }) : "";
  card.append(make("div", { className: "row spread" }, make("div", { className: "row" }, make("span", { className: `chip ${job.status}`, textContent: job.status }), make("strong", { textContent: job.title }), title), buttons));
  const levels = Object.entries(job.levels || {});
  if (job.status === "running" && levels.length) {
    const done = levels.reduce((sum, [, level]) => sum + level.done, 0), left = levels.reduce((sum, [, level]) => sum + level.left, 0);
    card.append(make("progress", { max: 1, value: done / Math.max(1, done + left), "aria-label": "Progress of sampling" }));
  }
  const facts = make("div", { className: "facts" });
  if (job.status === "running" && job.seconds_left !== null && job.seconds_left !== undefined) facts.append(make("span", { textContent: `${clock(job.seconds_left)} left` }));
  if (job.memory_bytes) facts.append(make("span", { textContent: `about ${bytes(job.memory_bytes)} of memory` }));
  if (job.ended) facts.append(make("span", { textContent: new Date(job.ended).toLocaleString() }));
  if (job.error) facts.append(make("span", { className: "problems", textContent: job.error }));
  card.append(facts, make("pre", { className: "command", tabIndex: 0, textContent: job.command, "aria-label": "As a command" }));
  return card;
}

const keep = (job) => job && jobs.set(job.id, { ...jobs.get(job.id), ...job });

function draw() {
  const rank = (job) => (["running", "stopping"].includes(job.status) ? 0 : job.status === "waiting" ? 1 : 2);
  const order = [...jobs.values()].sort((a, b) => rank(a) - rank(b) || (rank(a) === 2 ? b.ended.localeCompare(a.ended) : 0));
  $("jobs").replaceChildren(...order.map(shown));
  $("jobs-empty").hidden = order.length > 0;
  countQueue(order);
}

const refresh = guarded(async () => {
  const found = await ask("jobs");
  jobs.clear();
  found.jobs.forEach(keep);
  $("worker").textContent = found.worker.ready ? "The process that samples is ready." : "The process that samples is starting.";
  draw();
  if (found.jobs.length) $("log").textContent = (await ask(`jobs/${found.jobs[0].id}/log`)).lines.join("\n");
});

const soon = later(refresh, 150);
listen({
  job: soon, reset: soon,
  progress: (job) => { keep(job); draw(); },
  log: ({ line }) => { $("log").textContent += `\n${line}`; },
});
refresh();

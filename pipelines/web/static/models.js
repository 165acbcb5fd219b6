// The models: what each does, its licence, whether it is here, and whether it fits this machine.
import { $, ask, bytes, complain, confirmed, countQueue, guarded, later, listen, make } from "./api.js";

const DOES = { make: "makes songs", vary: "varies recordings", transcribe: "writes notes of recordings" };

function shown(model, total) {
  const card = make("article", { className: "card model", "aria-label": model.name });
  const fits = model.memory_bytes === null ? "" : model.memory_bytes < 0.8 * total ? "fits this machine" : "needs more memory than this machine has";
  const fetch = make("button", { type: "button", className: "main", textContent: "Fetch" });
  fetch.onclick = guarded(async () => {
    if (!model.accepted && !(await confirmed(`Licence of ${model.name}`, model.licence, { yes: "I accept" }))) return;
    await ask(`models/${encodeURIComponent(model.name)}/fetch`, { method: "POST", body: { accept_licence: !model.accepted } });
    fetch.disabled = true;
    fetch.textContent = "In the queue";
  });
  card.append(make("div", { className: "row spread" }, make("h2", { textContent: model.name }), model.here ? make("span", { className: "chip finished", textContent: "here" }) : fetch));
  card.append(make("p", { textContent: `It ${DOES[model.does]}${model.trained ? "" : "; it is untrained, so its music is noise"}.` }));
  const facts = [`${bytes(model.bytes)} to fetch`, model.memory_bytes ? `about ${bytes(model.memory_bytes)} of memory` : "", fits].filter(Boolean);
  card.append(make("div", { className: "facts" }, ...facts.map((fact) => make("span", { textContent: fact }))), make("p", { className: "faint", textContent: model.licence }));
  return card;
}

const refresh = guarded(async () => {
  const found = await ask("models");
  found.models.sort((a, b) => b.here - a.here || a.name.localeCompare(b.name));
  $("machine").textContent = `This machine has ${bytes(found.memory_bytes)} of memory, ${bytes(found.memory_free_bytes)} of it free.`;
  $("models").replaceChildren(...found.models.map((model) => shown(model, found.memory_bytes)));
  countQueue((await ask("jobs")).jobs);
});
const soon = later(refresh, 500);
listen({ job: (job) => { if (job.status === "failed" && job.title.startsWith("fetch")) complain(new Error(job.error)); soon(); }, reset: soon });
refresh();

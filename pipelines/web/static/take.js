// One take: its name, levels, words, downloads, and what can be done with it.
import { $, ask, clock, exact, make, take as path } from "./api.js";
import { title } from "./tree.js";

let timed = [];  // words with times
let shownWords = "";
let picture = "";

export function draw(run, take, job, copied, command, again = false) {
  const busy = Boolean(job) || run.status === "running";
  $("take-title").textContent = title(run, take);
  $("take-facts").textContent = [run.model, run.seconds ? exact(run.seconds) : "", take.artist !== "unknown" ? take.artist : "", take.genre !== "unknown" ? take.genre : "", run.seed === null ? "" : `seed ${run.seed}`, take.parent ? `from ${take.parent.replace(/\/(\d+)$/, (_, sample) => ` · ${Number(sample) + 1}`)}, ${exact(take.begins)} kept` : ""].filter(Boolean).join(" · ");
  $("star").setAttribute("aria-pressed", String(take.star));
  $("hide").setAttribute("aria-pressed", String(take.hidden));
  if (document.activeElement !== $("note")) $("note").value = take.note;
  progress(job);
  const stopped = !busy && ["stopped", "killed", "planned"].includes(run.status);
  $("stopped").hidden = !stopped;
  $("stopped-text").textContent = "This take is not finished; what was sampled is stored.";
  $("no-sound").hidden = take.sounds.length > 0 || Boolean(take.preview);
  levels(run, take, job);
  const finest = Math.min(...take.sounds.map((sound) => sound.level), run.levels), complete = run.status === "finished";
  $("upsample").hidden = !complete || finest === 0;
  for (const id of ["go-on", "spread"]) $(id).disabled = !take.sounds.length;
  for (const id of ["vary", "transcribe"]) $(id).hidden = !complete;
  $("paste").hidden = !copied;
  $("delete").disabled = busy;
  $("command").textContent = command;
  words(run, take, again);
  downloads(run, take, complete);
  spectrogram(run, take);
}

function progress(job) {
  $("progress").hidden = !job;
  if (!job) return;
  const all = Object.values(job.levels || {});
  const done = all.reduce((sum, level) => sum + level.done, 0), left = all.reduce((sum, level) => sum + level.left, 0);
  const texts = { waiting: "Waiting in the queue", stopping: "Stopping; what was sampled is being stored", running: "Sampling" };
  const time = job.status === "running" && job.seconds_left ? `, ${clock(job.seconds_left)} left` : "";
  $("progress-text").textContent = `${texts[job.status] || job.status}${time}`;
  $("progress-bar").value = done / Math.max(1, done + left);
  $("stop").disabled = job.status === "stopping";
}

function levels(run, take, job) {
  const rows = [];
  for (let level = run.levels - 1; level >= 0; level -= 1) {
    const sound = take.sounds.find((each) => each.level === level), now = job?.levels?.[level];
    const part = sound ? 1 : now ? now.done / Math.max(1, now.done + now.left) : 0;
    const name = level === 0 ? "Finished" : level === run.levels - 1 ? "Sketch" : "Draft";
    const row = make("li", { className: `level-${level}` }, make("span", { textContent: name }), make("span", { className: "track" }, make("i")), make("span", { textContent: sound ? exact(sound.seconds || 0) : part ? `${Math.round(100 * part)} %` : "–" }));
    row.style.setProperty("--part", part);
    rows.push(row);
  }
  $("levels").replaceChildren(...rows);
}

function words(run, take, again) {
  const which = `${run.name}/${take.sample}/${take.aligned}/${take.lyrics}`;
  $("align").hidden = take.aligned || !take.lyrics || run.status !== "finished";
  if (which === shownWords && !again) return;
  shownWords = which;
  timed = [];
  $("words").textContent = take.lyrics || "No words.";
  if (!take.aligned) return;
  ask(path(run.name, take.sample, "/alignment")).then((found) => {
    if (which !== shownWords) return;
    timed = found.words.map((word) => ({ ...word, element: make("span", { textContent: word.text, onclick: () => { $("sound").currentTime = word.start; } }) }));
    $("words").replaceChildren(...timed.flatMap((word) => [word.element, " "]));
  }).catch(() => {});
}

export function drawWords(seconds) {
  for (const word of timed) word.element.classList.toggle("sung", word.start <= seconds && seconds < word.end);
}

function downloads(run, take, complete) {
  const audio = (format) => [`Sound, ${format}`, `/api/${path(run.name, take.sample, `/audio?format=${format}&download=true`)}`];
  const links = take.sounds.length ? [audio("wav"), audio("flac"), audio("mp3")] : [];
  if (complete) links.push(["Notes, MIDI (after Notes)", `/api/${path(run.name, take.sample, "/notes")}`], ["Whole run, zip", `/api/runs/${encodeURIComponent(run.name)}/zip`]);
  if (complete && run.takes.length >= 2) links.push(["Mix of the takes, stereo", `/api/runs/${encodeURIComponent(run.name)}/mix`]);
  $("downloads").replaceChildren(...links.map(([text, href]) => make("a", { textContent: text, href, download: "" })));
}

function spectrogram(run, take) {
  const sound = take.sounds[0], address = sound ? `/api/${path(run.name, take.sample, `/spectrogram?v=${sound.sha256?.slice(0, 16)}`)}` : "";
  $("picture-box").hidden = !address;
  if (address === picture) return;
  picture = address;
  $("picture").hidden = true;
  if ($("picture-box").open) reveal();
}

function reveal() {
  if (picture) $("picture").src = picture;
  $("picture").hidden = !picture;
}
$("picture-box").ontoggle = () => { if ($("picture-box").open) reveal(); };

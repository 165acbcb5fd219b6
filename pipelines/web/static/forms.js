// The form of a new song, and of one that goes on from a take; it shows the command while it is filled in.
import { $, ask, complain, exact, guarded, later, make, Refused } from "./api.js";

const dialog = $("song-dialog"), form = $("song-form"), field = form.elements;
let aim = { path: "songs", kind: "new" };
let done = () => {};
let checks = 0;
const randomSeed = () => Math.floor(Math.random() * 1_000_000);
const number = (name) => (field[name].value === "" ? undefined : Number(field[name].value));

function body() {
  const words = { artist: field.artist.value.trim() || undefined, genre: field.genre.value.trim() || undefined, seed: number("seed"), temperature: number("temperature"), seconds: number("seconds"), number: number("number") };
  if (field.lyrics.value.trim() || aim.kind === "on") words.lyrics = field.lyrics.value;
  if (aim.kind === "new") {
    const prompt = field.prompt.value ? { id: field.prompt.value, seconds: number("prompt_seconds") } : undefined;
    return { ...words, model: field.model.value, sketch: field.sketch.checked, prompt };
  }
  const from = { ...words, sample: aim.sample };
  if (aim.choose) return from;
  return { ...from, keep_seconds: number("keep_seconds"), sketch: field.sketch.checked, pieces: aim.pieces };
}

function show(problems) {
  $("problems").replaceChildren(...problems.map((each) => make("li", { textContent: each.message })));
  $("make").disabled = problems.length > 0;
}

const check = later(async () => {
  if (!dialog.open) return;
  const mine = ++checks;
  try {
    const found = await ask(`${aim.path}?check=true`, { method: "POST", body: body() });
    if (mine !== checks) return;
    $("song-command").textContent = found.command;
    show([]);
  } catch (error) {
    if (mine !== checks) return;
    if (error instanceof Refused) show(error.problems);
    else complain(error);
  }
}, 350);

const suggest = later(async (name, kind, list) => {
  const model = aim.kind === "new" ? field.model.value : aim.model;
  const found = await ask(`models/${encodeURIComponent(model)}/labels?kind=${kind}&word=${encodeURIComponent(field[name].value)}`).catch(() => null);
  if (found) $(list).replaceChildren(...[...found.names, ...found.near].map((value) => make("option", { value })));
}, 150);

function open(title, about, to) {
  aim = to;
  $("song-title").textContent = title;
  $("song-about").textContent = about;
  for (const part of form.querySelectorAll("[data-for]")) part.hidden = part.dataset.for !== aim.kind || (aim.choose && part.dataset.for === "on");
  field.sketch.parentElement.hidden = Boolean(aim.choose);
  $("song-command").textContent = "";
  show([]);
  dialog.showModal();
  suggest("artist", "artist", "artists");
  suggest("genre", "genre", "genres");
  check();
}

const fill = (values) => { for (const [name, value] of Object.entries(values)) field[name].value = value ?? ""; };

export async function newSong(song = {}) {
  await models();
  fill({ artist: song.artist === "unknown" ? "" : song.artist, genre: song.genre === "unknown" ? "" : song.genre, lyrics: song.lyrics, seconds: song.seconds || 6, number: 1, seed: randomSeed(), temperature: "", keep_seconds: "" });
  if (song.model) field.model.value = song.model;
  field.sketch.checked = true;
  await prompts();
  open("New song", "", { path: "songs", kind: "new" });
}

// Goes on from a take: `keep` seconds of it, then perhaps ranges of other takes.
export function goOn(run, take, { keep, seconds, pieces, spread = false, title = "Go on from here" }) {
  const known = (text) => (text === "unknown" ? "" : text);
  fill({ artist: known(take.artist), genre: known(take.genre), lyrics: take.lyrics, seconds: Math.round(10 * seconds) / 10, keep_seconds: keep === undefined ? "" : Math.floor(100 * keep) / 100, number: spread ? 3 : 1, seed: randomSeed(), temperature: "" });
  field.sketch.checked = run.stop_level > 0;
  const inserted = pieces ? `, then ${pieces.map((piece) => `${piece.run} from ${exact(piece.from_seconds)}`).join(", ")}` : "";
  const about = `It begins as ${take.title || run.name} does${keep === undefined ? "" : `, until ${exact(keep)}`}${inserted}.`;
  const verb = pieces ? "splice" : spread ? "choose" : "continue";
  open(title, about, { path: `runs/${encodeURIComponent(run.name)}/${verb}`, kind: "on", sample: take.sample, pieces, choose: spread, model: run.model });
}

async function models() {
  if (field.model.options.length) return;
  const found = await ask("models");
  const usable = found.models.filter((model) => model.does === "make").sort((a, b) => b.here - a.here);
  field.model.replaceChildren(...usable.map((model) => make("option", { value: model.name, textContent: model.here ? model.name : `${model.name} (is fetched first)` })));
  const last = localStorage.getItem("model");
  if (usable.some((model) => model.name === last)) field.model.value = last;
}

async function prompts(chosen) {
  const found = await ask("prompts");
  const fixed = [...field.prompt.options].slice(0, 2);
  field.prompt.replaceChildren(...fixed, ...found.prompts.map((each) => make("option", { value: each.id, textContent: `recording of ${exact(each.seconds)}` })));
  field.prompt.value = chosen || "";
  check();
}

const upload = guarded(async (sound) => prompts((await ask("prompts", { method: "POST", raw: sound })).id));
$("upload").onchange = () => { if ($("upload").files[0]) upload($("upload").files[0]); };

// The microphone's sound as a wav file: what browsers record themselves, not every program reads.
let recorder = null;
$("record").onclick = guarded(async () => {
  if (recorder) { recorder.stop(); return; }
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true }).catch(() => { throw new Refused({ message: "the microphone cannot be used; allow it, or upload a recording" }); });
  const parts = [];
  recorder = new MediaRecorder(microphone);
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.onstop = guarded(async () => {
    microphone.getTracks().forEach((track) => track.stop());
    recorder = null;
    $("record").setAttribute("aria-pressed", "false");
    $("record").textContent = "Record";
    const decoded = await new AudioContext().decodeAudioData(await new Blob(parts).arrayBuffer());
    await upload(wav(decoded.getChannelData(0), decoded.sampleRate));
  });
  recorder.start();
  $("record").setAttribute("aria-pressed", "true");
  $("record").textContent = "Stop recording";
});

function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt "); view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); view.setUint16(22, 1, true); view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true); text(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, index) => view.setInt16(44 + 2 * index, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new Blob([view.buffer], { type: "audio/wav" });
}

export function start(onMade) {
  done = onMade;
  form.oninput = (event) => {
    if (event.target.name === "artist") suggest("artist", "artist", "artists");
    if (event.target.name === "genre") suggest("genre", "genre", "genres");
    check();
  };
  $("dice").onclick = () => { field.seed.value = randomSeed(); check(); };
  form.querySelector("[data-close]").onclick = () => dialog.close();
  form.onsubmit = async (event) => {
    event.preventDefault();
    $("make").disabled = true;
    try {
      const found = await ask(aim.path, { method: "POST", body: body() });
      checks += 1;
      if (aim.kind === "new") localStorage.setItem("model", field.model.value);
      dialog.close();
      done(found);
    } catch (error) {
      show(error.problems || [{ message: error.message }]);
    }
    $("make").disabled = false;
  };
}

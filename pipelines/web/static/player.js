// The bar player and the wave: one sound at a time; a region can be chosen on it.
import WaveSurfer from "./wavesurfer/wavesurfer.esm.js";
import Regions from "./wavesurfer/regions.esm.js";
import { $, ask, clock, exact, take } from "./api.js";

const sound = $("sound");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colours = () => ({ waveColor: colour("--wave"), progressColor: colour("--accent"), cursorColor: colour("--ink") });
const regions = Regions.create();
const wave = WaveSurfer.create({
  container: "#wave", media: sound, height: 148, barWidth: 3, barGap: 2, barRadius: 3, cursorWidth: 2, normalize: true,
  cspNonce: document.querySelector("meta[name=csp-nonce]").content, plugins: [regions], ...colours(),
});
addEventListener("theme", () => wave.setOptions(colours()));

let playing = "";  // the address of the sound that is loaded
let region = null;
let until = null;  // where a region that is played ends
const listeners = { time: [], region: [] };
export const on = (what, work) => listeners[what].push(work);

export const position = () => sound.currentTime;
export const duration = () => (Number.isFinite(sound.duration) ? sound.duration : 0);
export const chosen = () => (region ? { start: region.start, end: region.end } : null);

// Loads the sound of a take; `stamp` changes when the sound does, `from` is where it goes on.
export async function load(run, sample, stamp, { title, from = 0, play = false, keep = false } = {}) {
  const address = `/api/${take(run, sample, `/audio?v=${stamp}`)}`;
  $("player-title").textContent = title;
  if (address === playing) return;
  const was = keep ? sound.currentTime : from, resumes = play || (keep && !sound.paused);
  playing = address;
  const found = await ask(take(run, sample, `/peaks?points=600`));
  if (address !== playing) return;  // another one was chosen meanwhile
  clearRegion();
  await wave.load(address, [found.peaks], found.seconds).catch(() => {});
  $("wave").dataset.ready = stamp;
  if (was > 0.05) sound.currentTime = Math.min(was, Math.max(0, found.seconds - 0.05));
  if (resumes) await sound.play().catch(() => {});
  show();
}

export function unload(title = "Nothing chosen") {
  playing = "";
  clearRegion();
  sound.pause();
  sound.removeAttribute("src");
  wave.empty();
  delete $("wave").dataset.ready;
  $("player-title").textContent = title;
  show();
}

export function toggle() {
  until = null;
  if (!playing) return;
  if (sound.paused) sound.play().catch(() => {});
  else sound.pause();
}

export function seek(seconds) {
  if (playing) sound.currentTime = Math.max(0, Math.min(duration(), seconds));
}

export function playRegion() {
  if (!region) return;
  sound.currentTime = region.start;
  until = region.end;
  sound.play().catch(() => {});
}

export function clearRegion() {
  regions.clearRegions();
  region = null;
  changed();
}

function changed() {
  $("region").hidden = !region;
  if (region) $("region-text").textContent = `${exact(region.start)} to ${exact(region.end)}`;
  listeners.region.forEach((work) => work(chosen()));
}

function show() {
  const paused = sound.paused;
  $("play").setAttribute("aria-label", paused ? "Play" : "Pause");
  $("play").firstElementChild.textContent = paused ? "▶" : "❚❚";
  $("player-time").textContent = `${clock(sound.currentTime)} / ${clock(duration())}`;
  $("seek").value = duration() ? Math.round((1000 * sound.currentTime) / duration()) : 0;
  $("seek").setAttribute("aria-valuetext", `${clock(sound.currentTime)} of ${clock(duration())}`);
}

regions.enableDragSelection({ color: "rgb(226 120 30 / 22%)" });
regions.on("region-created", (made) => {
  regions.getRegions().filter((each) => each !== made).forEach((each) => each.remove());
  region = made;
  changed();
});
regions.on("region-updated", changed);
for (const event of ["play", "pause", "timeupdate", "durationchange", "emptied"]) sound.addEventListener(event, show);
sound.addEventListener("timeupdate", () => {
  if (until !== null && sound.currentTime >= until) {
    until = null;
    sound.pause();
  }
  listeners.time.forEach((work) => work(sound.currentTime));
});
$("play").onclick = toggle;
$("seek").oninput = () => seek(($("seek").value / 1000) * duration());
$("volume").oninput = () => { sound.volume = $("volume").value / 100; };
sound.volume = 0.9;
export const setRegion = (start, end) => regions.addRegion({ start, end, color: "rgb(226 120 30 / 22%)" });

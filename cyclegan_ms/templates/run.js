"use strict";
const tiles = document.getElementById("tiles");
let touched = 0;
if (tiles) {
  const slider = document.getElementById("epoch");
  const show = (index) => {
    index = Math.min(samples.length - 1, Math.max(0, index));
    slider.value = index;
    const { epoch, file } = samples[index];
    tiles.style.setProperty("--grid", `url("${file}")`);
    document.getElementById("which").textContent = `epoch ${epoch}`;
    const newest = index === samples.length - 1;
    history.replaceState(null, "", newest ? location.href.split("#")[0] : `#${epoch}`);
    for (const near of [index - 1, index + 1]) if (samples[near]) new Image().src = samples[near].file;
  };
  const go = (index) => { touched = Date.now(); show(index); };
  slider.addEventListener("input", () => go(Number(slider.value)));
  document.getElementById("earlier").addEventListener("click", () => go(Number(slider.value) - 1));
  document.getElementById("later").addEventListener("click", () => go(Number(slider.value) + 1));
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && event.target.tagName !== "INPUT") go(Number(slider.value) + step);
  });
  for (const [one, other, back] of [["fake", "back", false], ["back", "fake", true]]) {
    document.getElementById(one).addEventListener("click", () => {
      tiles.classList.toggle("show-back", back);
      document.getElementById(one).setAttribute("aria-pressed", true);
      document.getElementById(other).setAttribute("aria-pressed", false);
    });
  }
  const asked = samples.findIndex(({ epoch }) => `#${epoch}` === location.hash);
  if (asked >= 0) show(asked);
}
// A browser opens files of a disk, but lets no page read them: the whole page is loaded anew.
if (running) {
  setInterval(() => {
    if (!document.hidden && Date.now() - touched > 60000) location.reload();
  }, 30000);
}
for (const time of document.querySelectorAll("time")) {
  const written = new Date(time.dateTime);
  time.textContent = written.toLocaleString();
  // A training that was killed cannot say so.
  if (patience && Date.now() - written > patience) {
    document.getElementById("news").firstChild.textContent = "No news for long: it may have been stopped. Written ";
    document.getElementById("way")?.removeAttribute("hidden");
  }
}

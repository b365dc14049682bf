"use strict";
// Before and after: a pointer or the keyboard moves the line between the two.
const divide = (box, percent) => {
  const at = Math.min(100, Math.max(0, percent));
  box.style.setProperty("--at", at + "%");
  box.querySelector("input").value = at;
};
document.addEventListener("input", (event) => {
  const box = event.target.closest(".compare");
  if (box) divide(box, Number(event.target.value));
});
// Keys belong to the page again once a picture was clicked; by the keyboard it keeps them.
document.addEventListener("pointerup", (event) => {
  if (event.target.closest?.(".compare")) event.target.blur();
});
document.addEventListener("pointermove", (event) => {
  const box = event.pointerType === "mouse" && event.target.closest?.(".compare");
  if (!box) return;
  const place = box.getBoundingClientRect();
  divide(box, (100 * (event.clientX - place.left)) / place.width);
});

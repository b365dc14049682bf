"use strict";
const place = document.getElementById("cards"), more = document.getElementById("more");
let chosen = cards, drawn = 0;
const make = (kind, values, ...children) => {
  const element = Object.assign(document.createElement(kind), values);
  element.append(...children);
  return element;
};
const picture = (card) => {
  const after = card.after || card.file;
  const box = make("div", { className: "compare square" });
  if (!card.before) {
    box.className = "whole";
    box.append(make("img", { src: after, alt: card.name, loading: "lazy" }));
    return box;
  }
  box.append(
    make("img", { src: card.before, alt: card.name, loading: "lazy" }),
    make("img", { src: after, alt: "translated", className: "after", loading: "lazy" }),
    make("input", { type: "range", min: 0, max: 100, value: 50, ariaLabel: `${card.name}: original to translation` }),
  );
  return box;
};
const caption = (card) => {
  const text = make("figcaption", {}, make("a", { href: card.file }, card.name), card.size ? ` ${card.size}` : "");
  for (const note of card.notes || []) text.append(make("div", {}, note));
  if (card.back) text.append(make("details", {}, make("summary", {}, "and back"), make("img", { src: card.back, loading: "lazy", alt: "and back", className: "whole" })));
  return text;
};
// As many as are looked at: a page of ten thousand pictures opens as quickly as one of ten.
const draw = () => {
  const next = chosen.slice(drawn, drawn + some);
  place.append(...next.map((card) => make("figure", {}, picture(card), caption(card))));
  drawn += next.length;
  document.getElementById("count").textContent =
    chosen.length === cards.length ? `${cards.length} ${cards.length === 1 ? "picture" : "pictures"}` : `${chosen.length} of ${cards.length} pictures`;
};
const again = () => { place.replaceChildren(); drawn = 0; draw(); };
new IntersectionObserver((seen) => {
  if (seen[0].isIntersecting && drawn && drawn < chosen.length) draw();
}, { rootMargin: "800px" }).observe(more);
document.getElementById("filter").addEventListener("input", (event) => {
  const part = event.target.value.toLowerCase();
  chosen = cards.filter((card) => card.name.toLowerCase().includes(part));
  again();
});
document.getElementById("larger").addEventListener("input", (event) => {
  place.style.gridTemplateColumns = `repeat(auto-fill, minmax(min(100%, ${event.target.value}px), 1fr))`;
});
again();

"use strict";
// What a cell is sorted by: its first number where the column holds numbers, else its text; what is missing goes last.
const number = /[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?/i;
function value(row, column, numeric) {
  const text = row.cells[column].textContent.trim();
  if (!numeric) return text === "\u2013" ? null : text;
  const found = number.exec(text.replace("\u2212", "-"));
  return found ? Number(found[0].replaceAll(",", "")) : null;
}
function sort(heading) {
  const table = heading.closest("table"), body = table.tBodies[0];
  const column = heading.cellIndex, numeric = heading.classList.contains("right");
  const before = heading.getAttribute("aria-sort");
  // numbers are mostly wanted best first
  const order = before === "none" ? (numeric && heading.dataset.first !== "up" ? "descending" : "ascending")
    : before === "ascending" ? "descending" : "ascending";
  const sign = order === "ascending" ? 1 : -1;
  const rows = Array.from(body.rows, (row) => [value(row, column, numeric), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
  });
  body.append(...rows.map(([, row]) => row));
  for (const each of heading.parentNode.cells) each.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", order);
  document.getElementById("said").textContent =
    `${table.caption.querySelector("strong").textContent} sorted by ${heading.textContent.trim()}, ${order}.`;
}
for (const button of document.querySelectorAll("thead th button")) {
  button.addEventListener("click", () => sort(button.closest("th")));
}
// a table that goes on beyond its box says so: a shade at the side, and a word above it
function cue(box) {
  const rest = box.scrollWidth - box.clientWidth, hint = box.parentNode.querySelector(".more");
  box.parentNode.classList.toggle("before", rest > 1 && box.scrollLeft > 1);
  box.parentNode.classList.toggle("after", rest > 1 && box.scrollLeft < rest - 1);
  hint.textContent = rest > 1 ? "More columns: scroll sideways \u2194" : "";
  // the shade lies beside the columns, not over the caption or the hint above them
  const top = box.querySelector("thead").getBoundingClientRect().top - box.parentNode.getBoundingClientRect().top;
  box.parentNode.style.setProperty("--top", `${top}px`);
}
const boxes = Array.from(document.querySelectorAll(".scroll"));
for (const box of boxes) box.addEventListener("scroll", () => cue(box), { passive: true });
addEventListener("resize", () => boxes.forEach(cue));
boxes.forEach(cue);
// paper cannot be unfolded
addEventListener("beforeprint", () =>
  document.querySelectorAll("details:not(.screen)").forEach((each) => { each.open = true; }));

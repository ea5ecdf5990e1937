"use strict";
// Filters the operations by name, and copies examples. The page is complete without it.

const filter = document.getElementById("filter");
const entries = [...document.querySelectorAll("[data-operation]")];

filter.addEventListener("input", () => {
  const wanted = filter.value.trim().toLowerCase().replaceAll(" ", "_");
  for (const entry of entries) entry.hidden = !entry.dataset.operation.includes(wanted);
  for (const heading of document.querySelectorAll("main .group:not(#errors)")) {
    let next = heading.nextElementSibling, some = false;
    for (; next && next.tagName === "ARTICLE"; next = next.nextElementSibling) some ||= !next.hidden;
    heading.hidden = !some;
  }
  document.getElementById("nothing").hidden = entries.some((entry) => !entry.hidden);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== filter) {
    event.preventDefault();
    filter.focus();
  }
});

for (const button of document.querySelectorAll(".copy")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.nextElementSibling.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

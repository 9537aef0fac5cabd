// Names and roles that the theme and its extensions leave out.
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll(".search-button-field")) {
    // "Search Ctrl+K", also where a narrow screen hides it
    button.setAttribute("aria-label", button.textContent.trim().replace(/\s+/g, " "));
  }
  for (const toggle of document.querySelectorAll("summary:has(> .toctree-toggle)")) {
    const page = toggle.closest("li")?.querySelector("a")?.textContent ?? "";
    toggle.setAttribute("aria-label", `Pages under ${page}`);
  }
  for (const link of document.querySelectorAll(".sphx-glr-thumbcontainer a")) {
    link.setAttribute("aria-label", link.textContent); // hidden, over the thumbnail
  }
  for (const entry of document.querySelectorAll(".citation-list > .citation")) {
    entry.setAttribute("role", "listitem");
  }
  for (const formula of document.querySelectorAll("article div.math")) {
    formula.tabIndex = 0; // arrows scroll one that is wider than a narrow screen
  }
  // Narrow screens show each row as a list: "column: value" (reading.css).
  for (const table of document.querySelectorAll("article table.table")) {
    const columns = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, i) => {
        cell.classList.toggle("empty", !cell.textContent.trim());
        if (columns[i]) cell.dataset.column = columns[i];
      });
    }
  }
});

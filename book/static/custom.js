if (location.protocol === "file:") {
  // Search shows a passage of each page it finds, which it must fetch. A page opened
  // from a file may not fetch its neighbours, so there the titles alone are listed.
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
} else {
  // The button that offers a chapter as a notebook saves it, and opens no empty tab.
  addEventListener("DOMContentLoaded", () => {
    for (const link of document.querySelectorAll("a.btn-download-source-button")) {
      link.removeAttribute("target");
      link.download = "";
    }
  });
}

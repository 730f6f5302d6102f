// Sets the remembered colours before the first paint. Not a module, so that it runs at once.
"use strict";
(function () {
  try {
    var theme = localStorage.getItem("corrigenda.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch (refused) {
    // Storage may be forbidden; then the system's colours hold.
  }
})();

// The reader's choice of light or dark: applied before the first paint, kept in localStorage, told as a "themechange".
(() => {
  const CHOICES = ["auto", "light", "dark"];
  const NAME = "mtld-theme";
  const root = document.documentElement;

  const stored = () => {
    try {
      return localStorage.getItem(NAME);
    } catch {
      return null; // storage is switched off: the choice lasts as long as the page
    }
  };
  let choice = CHOICES.includes(stored()) ? stored() : "auto";

  const apply = () => {
    if (choice === "auto") delete root.dataset.theme;
    else root.dataset.theme = choice;
    document.dispatchEvent(new Event("themechange"));
  };
  const choose = (button) => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
    try {
      localStorage.setItem(NAME, choice);
    } catch {
      // see above
    }
    button.textContent = `Theme: ${choice}`;
    apply();
  };

  apply();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.textContent = `Theme: ${choice}`;
    button.addEventListener("click", () => choose(button));
  });
})();

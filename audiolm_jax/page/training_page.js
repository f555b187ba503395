for (const audio of document.querySelectorAll("audio")) {
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
  });
}
// A page of a running training is written anew; it is loaded again unless somebody listens or looks elsewhere.
const seconds = Number(document.querySelector("[data-reload-seconds]").dataset.reloadSeconds);
if (seconds > 0) {
  const openBefore = JSON.parse(sessionStorage.getItem("open") || "null");
  const details = [...document.querySelectorAll("details")];
  if (openBefore && openBefore.length === details.length) details.forEach((each, index) => (each.open = openBefore[index]));
  setInterval(() => {
    const listening = [...document.querySelectorAll("audio")].some((audio) => !audio.paused);
    if (listening || document.hidden) return;
    sessionStorage.setItem("open", JSON.stringify(details.map((each) => each.open)));
    location.reload();
  }, 1000 * seconds);
}

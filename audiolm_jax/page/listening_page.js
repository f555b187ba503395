for (const card of document.querySelectorAll("article")) {
  const audio = card.querySelector("audio");
  const cursors = card.querySelectorAll(".cursor");
  const follow = () => {
    if (!audio.duration) return;
    for (const cursor of cursors) {
      cursor.style.opacity = 1;
      cursor.style.left = `${(100 * audio.currentTime) / audio.duration}%`;
    }
    if (!audio.paused) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    follow();
  });
  audio.addEventListener("seeked", follow);
  for (const area of card.querySelectorAll(".area")) {
    area.addEventListener("click", (event) => {
      const box = area.getBoundingClientRect();
      if (!audio.duration) return;
      audio.currentTime = (audio.duration * (event.clientX - box.left)) / box.width;
      audio.play();
    });
  }
}

// Says when the page could not be brought up to date, and until when it is true. Nothing else.
"use strict";

(() => {
  document.documentElement.classList.add("has-script");
  const lost = document.getElementById("lost");

  const say = (what) => {
    const asOf = document.querySelector(".as-of time");
    lost.textContent = asOf === null ? what : `${what} What you see was so at ${asOf.textContent} UTC.`;
    lost.hidden = false;
  };

  // An error page must not take the place of what was known.
  document.addEventListener("htmx:before:response", (event) => {
    const status = event.detail.ctx.response.status;
    if (status < 400) {
      lost.hidden = true;
      return;
    }
    event.preventDefault();
    say(status === 503 ? "The storage does not answer." : `The page cannot be updated (${status}).`);
  });
  document.addEventListener("htmx:error", () => say("The server does not answer."));
})();

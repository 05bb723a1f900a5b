// Says when the page could not be brought up to date, and until when it is true.
"use strict";

(() => {
  document.documentElement.classList.add("has-script");
  const lost = document.getElementById("lost");

  const say = (what) => {
    const asOf = document.querySelector(".as-of time");
    lost.textContent = asOf === null ? what : `${what} What you see was so at ${asOf.textContent} UTC.`;
    lost.hidden = false;
  };

  // Neither an error nor a login page must take the place of what was known.
  document.addEventListener("htmx:before:response", (event) => {
    const { status, headers } = event.detail.ctx.response;
    if (status < 400 && headers.has("Turnwise-Part")) {
      lost.hidden = true;
      return;
    }
    event.preventDefault();
    if (document.querySelector(".as-of") === null) {
      // Nothing was known yet: what is wrong is a page of its own.
      window.location.replace(document.getElementById("live").dataset.waiting);
    } else if (status === 503) {
      say("The storage does not answer.");
    } else if (status < 400) {
      say("Something else answers here now, such as a login: load the page again.");
    } else {
      say(`The page cannot be updated (${status}).`);
    }
  });
  document.addEventListener("htmx:error", () => say("The server does not answer."));
})();

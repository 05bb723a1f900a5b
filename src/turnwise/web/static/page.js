// Says when the page could not be brought up to date, and until when it is true.
"use strict";

(() => {
  document.documentElement.classList.add("has-script");
  // Who was led here to wait, and loads the page again later, shall be shown at once what is known.
  const here = new URL(window.location.href);
  if (here.searchParams.has("wait") && document.getElementById("live") !== null) {
    here.searchParams.delete("wait");
    window.history.replaceState(null, "", here);
  }

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
    if (status === 503) {
      say("The storage does not answer.");
    } else if (status < 400) {
      say("Something else answers here now, such as a login: load the page again.");
    } else {
      say(`The page cannot be updated (${status}).`);
    }
  });
  document.addEventListener("htmx:error", () => say("The server does not answer."));
})();

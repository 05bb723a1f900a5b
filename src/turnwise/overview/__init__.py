"""What a storage says of a group, as people are shown it: by the command line, and by the page.

- :mod:`turnwise.overview.lives` says who is alive, and for what;
- :mod:`turnwise.overview.known` reads it, and says what follows from it;
- :mod:`turnwise.overview.verdicts` has a verdict for each period that was due;
- :mod:`turnwise.overview.findings` says what is not as it should be;
- :mod:`turnwise.overview.drawn` is what a picture of its turns is drawn from;
- :mod:`turnwise.overview.spoken` says schedules as people do;
- :mod:`turnwise.overview.words` and :mod:`turnwise.overview.shown` put it into words.

Needs the standard library alone.
"""

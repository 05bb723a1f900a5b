"""What hears events: log lines, metrics, traces and pings, each a handful of lines."""

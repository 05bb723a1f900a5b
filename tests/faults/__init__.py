"""Real processes, real servers, and what goes wrong between them."""

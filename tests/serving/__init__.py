"""The service: answers, refusals, lost roles, many clients at once, and what crosses the wires."""

"""A service under attack: many sessions, a hostile peer beside them, roles killed and restarted."""

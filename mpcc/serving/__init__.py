"""Private inference as a service: a server and a helper that compute for any number of thin clients, and their dealer."""

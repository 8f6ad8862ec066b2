"""Sessions: the processes of one private inference, on one machine or on three."""

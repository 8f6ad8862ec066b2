"""Where a party's tensors are and what computes on them: the CPU, or a GPU whose kernels give the same bits."""

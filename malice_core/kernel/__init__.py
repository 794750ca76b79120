"""The temporal encoder as one function of machine code, made on this machine for its processor, where llvmlite is.

Runtimes compute it operation by operation: each goes over all numbers anew, and attention over a few dates with heads
of 16 is too small for their products of matrices. Here the pixels of one vector of the processor (16 with AVX-512) stay
in its nearest caches from their features to their embedding. With ``--precision bfloat16``, products are of bfloat16
where the processor multiplies these in pairs (AVX-512 since 2020), and all else is float32.

- :mod:`malice_core.kernel.emit`: loops, vectors and their arithmetic as LLVM's intermediate representation.
- :mod:`malice_core.kernel.layers`: products of matrices, norms and attention, written in these.
- :mod:`malice_core.kernel.convolution`: the last convolution of a spatial graph.
- :mod:`malice_core.kernel.temporal`: the encoder, of those.
- :mod:`malice_core.kernel.parting`: takes that convolution out of a spatial graph.
- :mod:`malice_core.kernel.session`: the weights of the graphs, and calls.
- :mod:`malice_core.kernel.encoding`: encodes blocks with it.
"""

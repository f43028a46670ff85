"""The E step on arrays: latents given densities, and expected statistics. Nothing of models is in here.

Who wants expected statistics asks `choose` for a backend, once a batch, and then the backend, once a step.
A backend asks each emission for its features, for log densities or the linear map to them, and for what it
makes of weighted sums: `backend.Emission` is all that it knows of a family.

    choose.py                   which backend serves a batch, and why
    backend.py                  what a backend is, what it works on, and what it asks of an emission

    generic.py                  any emission on any device
      latents.py                  what is asked of latents
      independent.py              … of rows that are independent, in torch
      chain.py                    … of a Markov chain, chunk by chunk
        chain_steps.py              one chunk: compiled on a CPU, in torch elsewhere
        forward_backward.py         the compiled recursions, scaled and in logs; Viterbi; paths drawn
        scan.py                     the same recursions as blocked scans, for a GPU

    fused_rows.py               independent rows on a CPU, densities linear in features
      mixture.py                  rows cut into pieces for threads
      mixture_pass.py             a piece: features, densities, softmax and sums within the cache
      register_tiles.py           its matrix products, in registers

    blocked_chain.py            a chain on a CPU, densities linear in features
      blocks.py                   sequences cut into blocks side by side, and the messages between them
      simd_forward_backward.py    the recursions of eight blocks

    rows.py                     sequences, weights, and how they are cut into chunks
    workspace.py, pool.py       memory and threads that are used again
    jit.py                      how kernels are compiled
    simd.py, simd_log.py        eight doubles as one number in kernels
"""

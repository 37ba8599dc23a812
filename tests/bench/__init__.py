"""./bench: what our packages cost on a booted machine, beside a peer measured in the same run."""

"""SeqIO registrations that come with archobj_jax."""

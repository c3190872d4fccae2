"""The launcher of the native backend: a small program of its own, standard library only.

It is started as ``python -I -S`` beside the runtime and stays small, so that a fork costs a millisecond:

    runtime ── keeper ── session (user, mount, net, ipc and uts namespace) ── nest (mount, pid) ── command

`keeper` forks a session when asked; `session` builds its file system and forks a nest for each command;
`nest` gives up everything and runs it as the second process of its own pid namespace. Whoever dies takes
along all that is below. Nothing of botbook is imported here.
"""

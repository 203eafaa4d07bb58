"""A training process that hangs before its first word; launched by a test."""

import signal

if __name__ == "__main__":
    signal.pause()

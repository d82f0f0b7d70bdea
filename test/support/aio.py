"""Asynchronous I/O of the kernel (io_submit(2)), which neither Python nor the C library offers.

    with aio.Context(8) as context:
        context.submit([aio.write(fd, 0, data), aio.read(fd, 8192, 4096)])
        for request in context.completed(2):
            request.result              # bytes transferred, or a negative errno
            request.data()              # those bytes

A request owns memory that O_DIRECT takes, and stays alive in its context until it has completed.
"""

import ctypes
import errno
import os
import platform

import syscalls

# io_setup, io_destroy, io_submit, io_getevents: the tables of the kernel's arch/x86/entry/syscalls
# and include/uapi/asm-generic/unistd.h.
_NUMBERS = {"x86_64": (206, 207, 209, 208), "aarch64": (0, 1, 2, 4)}
_READ, _WRITE, _FSYNC = 0, 1, 2


class _ControlBlock(ctypes.Structure):
    """struct iocb of include/uapi/linux/aio_abi.h, on a little-endian machine."""

    _fields_ = [
        ("data", ctypes.c_uint64), ("key", ctypes.c_uint32), ("rw_flags", ctypes.c_int32),
        ("opcode", ctypes.c_uint16), ("priority", ctypes.c_int16), ("fd", ctypes.c_uint32),
        ("address", ctypes.c_uint64), ("length", ctypes.c_uint64), ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64), ("flags", ctypes.c_uint32), ("eventfd", ctypes.c_uint32),
    ]


class _Event(ctypes.Structure):
    """struct io_event of the same file."""

    _fields_ = [
        ("data", ctypes.c_uint64), ("block", ctypes.c_uint64),
        ("result", ctypes.c_int64), ("result2", ctypes.c_int64),
    ]


class Request:
    """One transfer. `result` is known once it has completed."""

    def __init__(self, opcode, fd, offset=0, length=0, data=None):
        self.is_write = opcode == _WRITE
        self.offset = offset
        self.length = length
        self.result = None
        self.memory = syscalls.aligned_buffer(length)
        if data is not None:
            self.memory[:length] = data
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory)) if length else 0
        self.block = _ControlBlock(
            data=id(self), opcode=opcode, fd=fd, address=address, length=length, offset=offset
        )

    def __str__(self):
        return f"{'write' if self.is_write else 'read'} {self.offset}+{self.length}"

    def data(self):
        """The bytes that were transferred."""
        return self.memory[: max(self.result, 0)]


def read(fd, offset, length):
    return Request(_READ, fd, offset, length)


def write(fd, offset, data):
    return Request(_WRITE, fd, offset, len(data), data)


def fsync(fd):
    return Request(_FSYNC, fd)


class Context:
    """What the kernel calls an AIO context: at most `depth` requests in flight."""

    def __init__(self, depth):
        try:
            self.setup, self.destroy, self.enter, self.collect = _NUMBERS[platform.machine()]
        except KeyError:
            raise OSError(errno.ENOSYS, f"no numbers for {platform.machine()}") from None
        self.id = ctypes.c_uint64(0)
        syscalls.by_number(self.setup, ctypes.c_uint(depth), ctypes.byref(self.id))
        self.in_flight = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Waits for what is in flight, as io_destroy(2) does."""
        syscalls.by_number(self.destroy, self.id)

    def submit(self, requests):
        """Starts all of `requests`, in this order."""
        waiting = list(requests)
        while waiting:
            pointers = (ctypes.c_void_p * len(waiting))(
                *(ctypes.addressof(request.block) for request in waiting)
            )
            self.in_flight.update((id(request), request) for request in waiting)
            started = syscalls.by_number(self.enter, self.id, ctypes.c_long(len(waiting)), pointers)
            waiting = waiting[started:]

    def completed(self, least=1):
        """Waits for `least` requests, and returns all that have completed, in that order."""
        most = max(least, len(self.in_flight))
        events = (_Event * most)()
        count = syscalls.by_number(
            self.collect, self.id, ctypes.c_long(least), ctypes.c_long(most), events, None
        )
        found = []
        for event in events[:count]:
            request = self.in_flight.pop(event.data)
            request.result = event.result
            found.append(request)
        return found

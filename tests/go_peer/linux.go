// What Linux knows of a TCP socket.
package main

import (
	"net"
	"syscall"
	"time"
	"unsafe"
)

const (
	tcpClose     = 7 // of tcp_states.h
	tcpCloseWait = 8
	siocoutq     = 0x5411 // bytes sent and not yet acknowledged
)

// tcpState returns the first byte of TCP_INFO.
func tcpState(socket *net.TCPConn) (byte, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var info [104]byte
	length := uint32(len(info))
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
			uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&length)), 0)
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return info[0], err
}

// waitSent returns when the peer's kernel has everything, or after ten seconds.
func waitSent(socket *net.TCPConn) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		queued := int32(0)
		raw.Control(func(fd uintptr) {
			syscall.Syscall(syscall.SYS_IOCTL, fd, siocoutq, uintptr(unsafe.Pointer(&queued)))
		})
		if queued == 0 {
			return
		}
	}
}

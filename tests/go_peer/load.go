// load: traffic with a known content. `load server` is the destination, which does what each connection's header asks
// for; `load client` opens connections, moves bytes, checks every one and prints a JSON line of how each ended. An end
// that looks whole but came early ("cut_clean") is told apart from a reset: a cut-off transfer must never look complete.
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type mode uint64

const (
	modeUp     mode = iota + 1 // client to server, then the server's report
	modeDown                   // server to client
	modeBoth                   // both at once, the report after the server's bytes
	modeEcho                   // what comes goes back
	modeNoRead                 // the server reads nothing after the header
	modeReset                  // the server sends, then resets
)

var modeNames = map[string]mode{"up": modeUp, "down": modeDown, "both": modeBoth, "echo": modeEcho, "noread": modeNoRead, "reset": modeReset}

const (
	unlimited    = math.MaxUint64
	headerMagic  = 0x6275_7269_6e6c_6f61
	reportMagic  = 0x6275_7269_6e72_6570
	headerLength = 32
	reportLength = 24
)

type header struct {
	mode        mode
	bytes, seed uint64
}

func (h header) encode() (out [headerLength]byte) {
	binary.BigEndian.PutUint64(out[0:], headerMagic)
	binary.BigEndian.PutUint64(out[8:], uint64(h.mode))
	binary.BigEndian.PutUint64(out[16:], h.bytes)
	binary.BigEndian.PutUint64(out[24:], h.seed)
	return
}

func runLoad(arguments []string) error {
	if len(arguments) > 0 {
		switch arguments[0] {
		case "server":
			return loadServer(arguments[1:])
		case "client":
			return loadClient(arguments[1:])
		}
	}
	return errors.New("usage: go_peer load server|client ...")
}

// outcome names how a connection ended.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "cut_clean"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "unreachable"
	case errors.Is(err, errMismatch):
		return "mismatch"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	return "other"
}

// resetBefore tells whether an end that was read is none: the kernel tells of a reset once, to whoever asks first, and if that
// is a write, reading ends. (After a real end, what is written fails with EPIPE.)
func resetBefore(read, written error) bool {
	return (errors.Is(read, io.EOF) || errors.Is(read, io.ErrUnexpectedEOF)) && errors.Is(written, syscall.ECONNRESET)
}

type loadDestination struct {
	logging       bool
	receiveBuffer int
	lock          sync.Mutex
	live, total   int64
}

func loadServer(arguments []string) error {
	var address string
	d := &loadDestination{}
	flags := newFlags("load server")
	flags.StringVar(&address, "listen", "127.0.0.1:0", "address")
	flags.BoolVar(&d.logging, "log", false, "a JSON line for every connection that ended")
	flags.IntVar(&d.receiveBuffer, "receive-buffer", 0, "SO_RCVBUF of each connection")
	flags.Parse(arguments)
	exitWithStdin()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("listening %s\n", listener.Addr())
	for {
		socket, err := listener.Accept()
		if err != nil {
			if errors.Is(err, syscall.EMFILE) {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return err
		}
		go d.serve(socket.(*net.TCPConn))
	}
}

func (d *loadDestination) serve(socket *net.TCPConn) {
	defer socket.Close()
	if d.receiveBuffer > 0 {
		socket.SetReadBuffer(d.receiveBuffer)
	}
	var raw [headerLength]byte
	_, err := io.ReadFull(socket, raw[:])
	h := header{mode(binary.BigEndian.Uint64(raw[8:])), binary.BigEndian.Uint64(raw[16:]), binary.BigEndian.Uint64(raw[24:])}
	var got uint64
	if err == nil && binary.BigEndian.Uint64(raw[:]) == headerMagic {
		got, err = d.answer(socket, h)
	}
	if d.logging {
		end := "eof"
		if err != nil {
			end = outcome(err)
		}
		line, _ := json.Marshal(map[string]interface{}{"mode": h.mode, "seed": h.seed, "got": got, "end": end})
		d.lock.Lock()
		fmt.Println(string(line))
		d.lock.Unlock()
	}
}

func report(got uint64, err error) []byte {
	out := make([]byte, reportLength)
	binary.BigEndian.PutUint64(out, reportMagic)
	binary.BigEndian.PutUint64(out[8:], got)
	if err == nil {
		out[23] = 1
	}
	return out
}

func (d *loadDestination) answer(socket *net.TCPConn, h header) (uint64, error) {
	buffer := func() []byte {
		if h.bytes >= 32<<20 {
			return make([]byte, 256<<10)
		}
		return make([]byte, 32<<10)
	}
	switch h.mode {
	case modeUp:
		got, err := receivePattern(socket, h.seed, h.bytes, buffer(), nil)
		if err != nil {
			if errors.Is(err, errMismatch) {
				socket.Write(report(got, err))
			}
			return got, err
		}
		socket.Write(report(got, nil))
		socket.CloseWrite()
		_, err = io.Copy(io.Discard, socket)
		return got, err
	case modeDown:
		if err := sendPattern(socket, h.seed, h.bytes, nil); err != nil {
			return 0, err
		}
		socket.CloseWrite()
		n, err := io.Copy(io.Discard, socket)
		return uint64(n), err
	case modeBoth:
		sent := make(chan error, 1)
		go func() { sent <- sendPattern(socket, ^h.seed, h.bytes, nil) }()
		got, err := receivePattern(socket, h.seed, h.bytes, buffer(), nil)
		if wrong := <-sent; err == nil || resetBefore(err, wrong) {
			err = wrong
		}
		if err != nil {
			return got, err
		}
		socket.Write(report(got, nil))
		socket.CloseWrite()
		_, err = io.Copy(io.Discard, socket)
		return got, err
	case modeEcho:
		n, err := io.CopyBuffer(struct{ io.Writer }{socket}, struct{ io.Reader }{socket}, make([]byte, 32<<10))
		if err == nil {
			socket.CloseWrite()
		}
		return uint64(n), err
	case modeNoRead:
		// A socket that nobody reads tells of its end only by its state, so ask now and then.
		for {
			time.Sleep(200 * time.Millisecond)
			if state, err := tcpState(socket); err != nil || state == tcpClose || state == tcpCloseWait {
				return 0, syscall.ECONNRESET
			}
		}
	case modeReset:
		if err := sendPattern(socket, h.seed, h.bytes, nil); err != nil {
			return 0, err
		}
		// What was sent must have arrived before the reset, which throws away what is still queued.
		waitSent(socket)
		socket.SetLinger(0)
		return 0, nil
	}
	return 0, errors.New("unknown mode")
}

type loader struct {
	address       string
	mode          mode
	bytes         uint64
	seed          uint64
	connections   int
	dialing       int
	halfClose     bool
	stall, again  bool
	duration      time.Duration
	timeout       time.Duration
	stalledAfter  time.Duration
	progress      time.Duration
	sendBuffer    int
	receiveBuffer int
	moved         uint64
	lock          sync.Mutex
	outcomes      map[string]int
	first         string
	told          bool // how it all ended
}

func loadClient(arguments []string) error {
	l := &loader{outcomes: map[string]int{}}
	var kind string
	flags := newFlags("load client")
	flags.StringVar(&l.address, "connect", "", "host:port")
	flags.StringVar(&kind, "mode", "down", "up, down, both, echo, noread, reset")
	flags.Uint64Var(&l.bytes, "bytes", 1<<20, "bytes of each connection and direction; 0: until --duration is over")
	flags.Uint64Var(&l.seed, "seed", 1, "content; connection n has seed+n")
	flags.IntVar(&l.connections, "connections", 1, "connections at once")
	flags.IntVar(&l.dialing, "dialing", 128, "connections being opened at once")
	flags.BoolVar(&l.halfClose, "half-close", false, "up, echo: the end of our bytes is told by FIN alone")
	flags.BoolVar(&l.stall, "stall", false, "never read; hold the connections until standard input ends")
	flags.BoolVar(&l.again, "again", false, "begin a new connection when one ended, until --duration is over")
	flags.DurationVar(&l.duration, "duration", 0, "stop after this time")
	flags.DurationVar(&l.timeout, "timeout", 60*time.Second, "longest time without progress")
	flags.DurationVar(&l.stalledAfter, "stalled-after", time.Second, "noread: a write that waits so long has filled everything")
	flags.DurationVar(&l.progress, "progress", 0, "print bytes moved so far at this interval")
	flags.IntVar(&l.sendBuffer, "send-buffer", 0, "SO_SNDBUF")
	flags.IntVar(&l.receiveBuffer, "receive-buffer", 0, "SO_RCVBUF")
	flags.Parse(arguments)
	l.mode = modeNames[kind]
	if l.mode == 0 {
		return fmt.Errorf("unknown mode %q", kind)
	}
	stop := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
		if !l.stall && l.mode != modeNoRead {
			os.Exit(0)
		}
	}()
	begin := time.Now()
	if l.progress > 0 {
		go func() {
			for range time.Tick(l.progress) {
				l.printProgress(begin)
			}
		}()
	}
	deadline := time.Time{}
	if l.duration > 0 {
		deadline = begin.Add(l.duration)
	}
	gate := make(chan struct{}, l.dialing)
	var all sync.WaitGroup
	var next uint64
	for i := 0; i < l.connections; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				seed := l.seed + atomic.AddUint64(&next, 1) - 1
				err := l.one(seed, gate, deadline, stop, begin)
				if err != nil && l.duration > 0 && time.Now().After(deadline) && errors.Is(err, os.ErrDeadlineExceeded) {
					err = nil
				}
				l.count(err)
				if !l.again || time.Now().After(deadline) {
					return
				}
				if err != nil {
					time.Sleep(20 * time.Millisecond)
				}
			}
		}()
	}
	all.Wait()
	l.print("done", begin)
	return nil
}

func (l *loader) count(err error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.outcomes[outcome(err)]++
	if err != nil && l.first == "" {
		l.first = err.Error()
	}
}

func (l *loader) printProgress(begin time.Time) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if !l.told { // the summary is the last line
		fmt.Printf("{\"progress\": %d, \"seconds\": %.3f}\n", atomic.LoadUint64(&l.moved), time.Since(begin).Seconds())
	}
}

func (l *loader) print(event string, begin time.Time) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.told = event == "done"
	line, _ := json.Marshal(map[string]interface{}{"event": event, "outcomes": l.outcomes, "bytes": atomic.LoadUint64(&l.moved),
		"seconds": time.Since(begin).Seconds(), "first_error": l.first})
	fmt.Println(string(line))
}

// patient gives each read and write its own deadline, within the whole one.
type patient struct {
	*net.TCPConn
	timeout time.Duration
	end     time.Time
}

func (p patient) until() time.Time {
	at := time.Now().Add(p.timeout)
	if !p.end.IsZero() && p.end.Before(at) {
		return p.end
	}
	return at
}

func (p patient) Read(into []byte) (int, error) {
	p.SetReadDeadline(p.until())
	return p.TCPConn.Read(into)
}

func (p patient) Write(from []byte) (int, error) {
	p.SetWriteDeadline(p.until())
	return p.TCPConn.Write(from)
}

var stalledLock sync.Mutex
var stalledCount int

func (l *loader) one(seed uint64, gate chan struct{}, deadline time.Time, stop chan struct{}, begin time.Time) error {
	gate <- struct{}{}
	release := func() { <-gate }
	dialer := net.Dialer{Timeout: l.timeout}
	plain, err := dialer.Dial("tcp", l.address)
	if err != nil {
		release()
		return err
	}
	socket := patient{plain.(*net.TCPConn), l.timeout, deadline}
	defer socket.Close()
	if l.sendBuffer > 0 {
		socket.SetWriteBuffer(l.sendBuffer)
	}
	if l.receiveBuffer > 0 {
		socket.SetReadBuffer(l.receiveBuffer)
	}
	count := l.bytes
	if count == 0 {
		count = unlimited
	}
	asked := header{l.mode, count, seed}
	if l.halfClose {
		asked.bytes = unlimited
	}
	raw := asked.encode()
	if _, err := socket.Write(raw[:]); err != nil {
		release()
		return err
	}
	if l.stall || l.mode == modeNoRead {
		if l.mode == modeNoRead {
			socket.timeout = l.stalledAfter
			if err := sendPattern(socket, seed, count, &l.moved); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				release()
				return err
			}
		}
		release()
		stalledLock.Lock()
		stalledCount++
		ready := stalledCount == l.connections
		stalledLock.Unlock()
		if ready {
			l.print("ready", begin)
		}
		<-stop
		socket.SetLinger(0) // with bytes on the way a FIN would never arrive
		return nil
	}
	release()
	size := 256 << 10
	if l.connections > 64 {
		size = 16 << 10
	}
	buffer := make([]byte, size)
	switch l.mode {
	case modeUp:
		if err := sendPattern(socket, seed, count, &l.moved); err != nil {
			return err
		}
		if l.halfClose {
			socket.CloseWrite()
		}
		return l.readReport(socket, count)
	case modeDown, modeReset:
		got, err := receivePattern(socket, seed, count, buffer, &l.moved)
		if err != nil || count == unlimited {
			return err
		}
		// After the last byte comes the end, and a clean one.
		if _, err := socket.Read(buffer[:1]); err != io.EOF {
			if err == nil {
				return fmt.Errorf("more than the %d bytes asked for", got)
			}
			return err
		}
		return nil
	case modeBoth, modeEcho:
		back := ^seed
		if l.mode == modeEcho {
			back = seed
		}
		sent := make(chan error, 1)
		go func() {
			err := sendPattern(socket, seed, count, &l.moved)
			if err == nil && l.halfClose {
				err = socket.CloseWrite()
			}
			sent <- err
		}()
		_, err := receivePattern(socket, back, count, buffer, &l.moved)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			// Linux tells of a reset once. When the write heard of it, a read sees an end without an error; after a FIN
			// the write would have got EPIPE instead.
			select {
			case told := <-sent:
				if errors.Is(told, syscall.ECONNRESET) {
					err = told
				}
				sent <- nil
			case <-time.After(time.Second):
			}
		}
		if err != nil {
			socket.SetLinger(0)
			socket.Close()
			if wrong := <-sent; resetBefore(err, wrong) {
				return wrong
			}
			return err
		}
		if err := <-sent; err != nil {
			return err
		}
		if l.mode == modeBoth {
			return l.readReport(socket, count)
		}
		if l.halfClose {
			if _, err := socket.Read(buffer[:1]); err != io.EOF {
				return fmt.Errorf("after the echo: %v", err)
			}
		}
		return nil
	}
	return errors.New("unknown mode")
}

func (l *loader) readReport(socket net.Conn, count uint64) error {
	var raw [reportLength]byte
	if _, err := io.ReadFull(socket, raw[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint64(raw[:]) != reportMagic || raw[23] != 1 {
		return errMismatch
	}
	if got := binary.BigEndian.Uint64(raw[8:]); got != count {
		return fmt.Errorf("the destination got %d of %d bytes", got, count)
	}
	return nil
}

// What a Go peer wants of the messages that it reads (docs/wire.md sections 3.1 and 3.3): none above 512 KiB, none empty,
// and small SSH packets together in messages of up to 4096 bytes, but each large packet in one of its own.
package main

import "sync"

const (
	largestMessage = 512 * 1024
	groupedMessage = 4096
)

// message is where a WebSocket message lies in the bytes of SSH, and how many packets ended inside it.
type message struct {
	start, end uint64
	packets    int
}

// messageShapes is what a script may ask for.
type messageShapes struct {
	Messages    int    `json:"messages"`
	Largest     uint64 `json:"largest"`      // bytes
	MostPackets int    `json:"most_packets"` // in one message
}

// messageRules watches the messages of one direction. Frames come before the packets in them are read.
type messageRules struct {
	batch  bool // the peer was told that many packets may share a message
	open   []message
	shapes messageShapes
	guard  sync.Mutex
}

// frame takes the next data frame: the first of its message or not, the last or not.
func (r *messageRules) frame(first, last bool, length uint64) error {
	r.guard.Lock()
	defer r.guard.Unlock()
	if first {
		at := r.position()
		r.open = append(r.open, message{start: at, end: at})
		r.shapes.Messages++
	}
	if len(r.open) == 0 {
		return errText("VIOLATION: a continuation of nothing")
	}
	m := &r.open[len(r.open)-1]
	m.end += length
	if size := m.end - m.start; size > r.shapes.Largest {
		r.shapes.Largest = size
	}
	if last && m.end == m.start {
		return errText("VIOLATION: an empty message")
	}
	if m.end-m.start > largestMessage {
		return errText("VIOLATION: a message of more than 512 KiB")
	}
	return r.check(m)
}

func (r *messageRules) position() uint64 {
	if len(r.open) == 0 {
		return 0
	}
	return r.open[len(r.open)-1].end
}

// packetEnded says that a packet ended at this byte of SSH.
func (r *messageRules) packetEnded(at uint64) error {
	r.guard.Lock()
	defer r.guard.Unlock()
	for len(r.open) > 1 && r.open[0].end < at {
		r.open = r.open[1:]
	}
	m := &r.open[0]
	m.packets++
	if m.packets > r.shapes.MostPackets {
		r.shapes.MostPackets = m.packets
	}
	return r.check(m)
}

func (r *messageRules) check(m *message) error {
	if !r.batch && m.packets > 1 && m.end-m.start > groupedMessage {
		return errText("VIOLATION: several packets in a message of more than 4096 bytes")
	}
	return nil
}

func (r *messageRules) taken() messageShapes {
	r.guard.Lock()
	defer r.guard.Unlock()
	return r.shapes
}

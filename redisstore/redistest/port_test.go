package redistest

import (
	"errors"
	"net"
	"testing"
)

func TestTakenPortIsTriedAgain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := Start(t, Options{})
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	port := n.port
	n.port = l.Addr().(*net.TCPAddr).Port
	if err := n.configure(); err != nil {
		t.Fatal(err)
	}
	if err := n.Restart(); !errors.Is(err, errPortTaken) {
		t.Errorf("Restart on a taken port: %v, want %v", err, errPortTaken)
	}
	n.port = port
	if err := n.configure(); err != nil {
		t.Fatal(err)
	}
	if err := n.Restart(); err != nil {
		t.Error(err)
	}
}

// TestPortIsReservedWhileServerIsStopped: another process does not get the port of a server that
// is about to restart.
func TestPortIsReservedWhileServerIsStopped(t *testing.T) {
	t.Parallel()
	n := Start(t, Options{})
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if mark, err := net.ListenPacket("udp", n.Addr()); err == nil {
		mark.Close()
		t.Error("another process can reserve the port of a stopped server")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	mark, err := net.ListenPacket("udp", n.Addr())
	if err != nil {
		t.Fatalf("the port is still reserved after Close: %v", err)
	}
	mark.Close()
}

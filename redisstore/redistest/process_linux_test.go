package redistest_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

// parentVar makes this test binary a parent process of servers, which the test kills.
const parentVar = "REDISTEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentVar) != "" {
		parent()
	}
	os.Exit(m.Run())
}

// parent starts one server of each program, prints the process ids, and waits to be killed.
func parent() {
	for _, s := range redistest.Servers() {
		n, err := redistest.New(redistest.Options{Server: s})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(n.PID())
	}
	fmt.Println("ready")
	select {}
}

func TestServersEndWithKilledParent(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentVar+"=1", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var pids []string
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "ready"; {
		pids = append(pids, lines.Text())
	}
	if len(pids) == 0 {
		t.Fatal("the parent started no server")
	}
	for _, pid := range pids {
		if ended(pid) {
			t.Fatalf("the server with process id %s does not run", pid)
		}
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	deadline := time.Now().Add(time.Minute)
	for _, pid := range pids {
		for !ended(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("the server with process id %s still runs a minute after its parent was killed", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
	t.Logf("killed the parent of %v", pids)
}

// ended reports whether a process has ended. It may still wait for its parent to notice.
func ended(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// TestServerOutlivesThread starts servers from threads that end. The kernel must not treat such a
// thread as the server's parent process.
func TestServerOutlivesThread(t *testing.T) {
	t.Parallel()
	const count = 4
	nodes, threads := make(chan *redistest.Node, count), make(chan int, count)
	for range count {
		go func() {
			runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
			n, err := redistest.New(redistest.Options{})
			if err != nil {
				t.Error(err)
			}
			threads <- syscall.Gettid()
			nodes <- n
		}()
	}
	var started []*redistest.Node
	for range count {
		if n := <-nodes; n != nil {
			t.Cleanup(func() { must(t, n.Close()) })
			started = append(started, n)
		}
	}
	for range count {
		if id := <-threads; id != os.Getpid() { // the runtime keeps the first thread
			mustEndThread(t, id)
		}
	}
	for _, n := range started {
		mustReply(t, n, "PONG", "PING")
	}
}

// mustEndThread waits until a thread of this process has ended.
func mustEndThread(t *testing.T, id int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", id)); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the thread of a goroutine that has ended still runs")
		}
	}
}

package polyglot_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// asProgram is the variable of the environment that makes this test binary a step program.
const asProgram = "COATCHECK_STEP_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		status := m.Run()
		for _, c := range closers {
			if err := c.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
		os.Exit(status)
	}
	g := newGoSteps(-1)
	serveSteps(g, os.Stdin, os.Stdout)
	g.close()
}

// serveSteps is the step program of Go: see the step protocol.
func serveSteps(steps stepper, in io.Reader, out io.Writer) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	defer wg.Wait()
	replies, lines := json.NewEncoder(out), json.NewDecoder(in)
	for {
		var s step
		if err := lines.Decode(&s); err != nil {
			return
		}
		wg.Go(func() {
			got, err := steps.step(s)
			if err != nil {
				got = s.failed(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err := replies.Encode(got); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		})
	}
}

// program is a step program under way.
type program struct {
	language string
	in       io.WriteCloser

	mu      sync.Mutex
	waiting map[int64]chan reply
	err     error // it has ended
}

// step sends a step, and waits for its reply.
func (p *program) step(s step) (reply, error) { return p.stepWithin(s, 2*busy) }

// stepWithin is step with a time limit. A program that exceeds it gets no more steps.
func (p *program) stepWithin(s step, limit time.Duration) (reply, error) {
	line, err := json.Marshal(s)
	if err != nil {
		return reply{}, err
	}
	answer := make(chan reply, 1)
	p.mu.Lock()
	if p.err == nil {
		p.waiting[s.ID] = answer
		_, p.err = p.in.Write(append(line, '\n'))
	}
	err = p.err
	p.mu.Unlock()
	if err != nil {
		return reply{}, fmt.Errorf("%s: %w", p.language, err)
	}
	select {
	case got, ok := <-answer:
		if !ok {
			return reply{}, fmt.Errorf("the step program of %s has ended", p.language)
		}
		return got, nil
	case <-time.After(limit):
		p.mu.Lock()
		p.err = errors.New("it did not reply within the limit")
		p.mu.Unlock()
		return reply{}, fmt.Errorf("%s has not replied to %s", p.language, line)
	}
}

// read receives the replies.
func (p *program) read(out io.Reader) {
	lines := bufio.NewReader(out)
	var err error
	for err == nil {
		var line []byte
		if line, err = lines.ReadBytes('\n'); err != nil {
			break
		}
		var got reply
		if err = json.Unmarshal(line, &got); err != nil {
			err = fmt.Errorf("the line %.200q: %w", line, err)
			break
		}
		p.mu.Lock()
		answer := p.waiting[got.ID]
		delete(p.waiting, got.ID)
		p.mu.Unlock()
		if answer == nil {
			err = fmt.Errorf("a reply to no step: %.200s", line)
			break
		}
		answer <- got
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = fmt.Errorf("the program's output: %w", err)
	for _, answer := range p.waiting {
		close(answer)
	}
}

// startProgram starts a step program, and ends it with the test.
func startProgram(t testing.TB, language string, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{language: language, waiting: map[int64]chan reply{}}
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd.Stderr, cmd.WaitDelay = &log, 5*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v: run its clients/%s/test first", cmd.Path, err, language)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read(out)
	}()
	t.Cleanup(func() {
		p.in.Close()
		timer := time.AfterFunc(time.Minute, func() {
			t.Errorf("%s: the program does not end at the end of its input", language)
			_ = cmd.Process.Kill()
			_ = out.Close() // a child of the program may keep its output open
		})
		<-read
		err := cmd.Wait()
		timer.Stop()
		if err != nil {
			t.Errorf("%s: the program ended with %v", language, err)
		}
		if text := log.String(); t.Failed() && text != "" {
			t.Logf("%s wrote to its log:\n%.4000s", language, text)
		}
	})
	return p
}

// startTimeout is how long a program may take until its first reply. It may have to be compiled.
const startTimeout = 5 * time.Minute

// startPrograms starts the step programs of Go and of all clients that exist, and waits until each
// has made a step.
func startPrograms(t testing.TB, s *server) []*program {
	t.Helper()
	all := launchPrograms(t)
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() {
			client := encoded(map[string]string{"name": "first", "url": s.url, "namespace": "first"})
			got, err := p.stepWithin(step{ID: lastID.Add(1), Client: client}, startTimeout)
			if err != nil || got.Outcome != "ok" {
				t.Errorf("%s replied %s to the first step: %v", p.language, encoded(got), err)
			}
		})
	}
	if wg.Wait(); t.Failed() {
		t.FailNow()
	}
	return all
}

func launchPrograms(t testing.TB) []*program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context()) // the end of its input ends a program
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	all := []*program{startProgram(t, "go", cmd)}
	folders := append([]string{".."}, filepath.SplitList(os.Getenv("COATCHECK_CLIENTS"))...)
	for _, folder := range folders {
		paths, err := filepath.Glob(filepath.Join(folder, "*", "contract"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			language := filepath.Base(filepath.Dir(path))
			if slices.ContainsFunc(all, func(p *program) bool { return p.language == language }) {
				continue
			}
			path, err := filepath.Abs(path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, startProgram(t, language, exec.CommandContext(ctx, path)))
		}
	}
	return all
}

package child

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
)

// Serve is the child's side: it tells the parent that the child listens on addr, and returns when the parent has ended
// or wants the child to end. An interrupt from the terminal is left to the parent.
func Serve(addr string) error {
	signal.Ignore(interrupts...)
	fmt.Println(ready + addr)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() != askCPU {
			return fmt.Errorf("the parent asked for %q", lines.Text())
		}
		used, err := cpuTime()
		if err != nil {
			return err
		}
		fmt.Println(used.Nanoseconds())
	}
	return lines.Err()
}

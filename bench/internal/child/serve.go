package child

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
)

// Serve runs in the child. It tells the parent that the child listens on addr, and responds to
// requests. It returns when the parent ends, or stops the child. It ignores interrupts from the
// terminal, because the parent handles them.
func Serve(addr string) error {
	signal.Ignore(interrupts...)
	fmt.Println(ready + addr)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() != askCPU {
			return fmt.Errorf("unknown request %q from the parent", lines.Text())
		}
		used, err := CPUTime()
		if err != nil {
			return err
		}
		fmt.Println(used.Nanoseconds())
	}
	return lines.Err()
}

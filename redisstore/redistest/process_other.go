//go:build !linux

package redistest

import "os/exec"

// tie does nothing: a parent that is killed leaves its servers running here.
func tie(*exec.Cmd) {}

// killTied kills the child.
func killTied(cmd *exec.Cmd) error { return cmd.Process.Kill() }

//go:build !linux

package redistest

import "os/exec"

// tie does nothing. On this system a killed parent leaves its servers running.
func tie(*exec.Cmd) {}

// killTied kills the child.
func killTied(cmd *exec.Cmd) error { return cmd.Process.Kill() }

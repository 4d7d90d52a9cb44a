package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// portsTried bounds the search for a free port upwards from each default. Each daemon takes five; this is room for hundreds.
const portsTried = 4000

// claims keeps the ports that a first run chose from other first runs on this machine, until this process listens there: one
// locked file in the temporary folder for each port. The locks are the kernel's and end with the process.
type claims []*os.File

func (c *claims) release() {
	for _, f := range *c {
		f.Close()
	}
	*c = nil
}

// take claims a port on which nothing listens.
func (c *claims) take(host string, port int) bool {
	f, err := openClaim(port)
	if err == nil {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			f.Close()
			return false // another first run has it
		}
		*c = append(*c, f)
	} // no claim can be made, as where there is no temporary folder: then the look at the port has to do
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func openClaim(port int) (*os.File, error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("chand-port-%d.lock", port))
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0) // another user's file is good as well
	if err == nil {
		return f, nil
	}
	return os.OpenFile(path, os.O_RDONLY|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
}

// freePorts moves the listen addresses to ports where nothing listens now, so that several homes on one machine just work.
func freePorts(all []setting) (claims, error) {
	var c claims
	for i, s := range all {
		if !s.port {
			continue
		}
		host, p, err := net.SplitHostPort(s.value)
		if err != nil {
			return c, err
		}
		first, err := strconv.Atoi(p)
		if err != nil {
			return c, err
		}
		port := first
		for ; !c.take(host, port); port += 5 {
			if port >= first+portsTried {
				return c, fmt.Errorf("no free port for %s from %d on: set it by --%s HOST:PORT", s.key, first, flagName(s.key))
			}
		}
		all[i].value = net.JoinHostPort(host, strconv.Itoa(port))
	}
	return c, nil
}

// checkPorts says in one sentence which setting can't be had, before anything of the daemon exists.
func checkPorts(all []setting, values map[string]string) error {
	for _, s := range all {
		v := values[s.key]
		if !s.port || v == "" {
			continue
		}
		l, err := net.Listen("tcp", v)
		if err != nil {
			return fmt.Errorf("%s = %q: %w: stop the program that has the port, or set another one with --%s HOST:PORT", s.key, v, err, flagName(s.key))
		}
		l.Close()
	}
	return nil
}

// listenAddress takes an IP address or localhost, and a port.
func listenAddress(p *string, mayBeEmpty bool) func(string) error {
	return func(s string) error {
		*p = s
		if s == "" && mayBeEmpty {
			return nil
		}
		host, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil || net.ParseIP(host) == nil {
			return fmt.Errorf("want an IP address and a port, like 127.0.0.1:9741 or [::1]:9741")
		}
		return nil
	}
}

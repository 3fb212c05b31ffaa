// pause is the only program in the test images: it keeps a sandbox or a container running, or ends as its
// arguments specify.
//
//	pause              run until SIGTERM
//	pause 2s           run for two seconds
//	pause 2s 1         then fail with exit code 1
package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	var end <-chan time.Time
	code := 0
	if len(os.Args) > 1 {
		length, err := time.ParseDuration(os.Args[1])
		if err != nil {
			os.Exit(2)
		}
		end = time.After(length)
	}
	if len(os.Args) > 2 {
		code, _ = strconv.Atoi(os.Args[2])
	}
	select {
	case <-stop:
	case <-end:
		os.Exit(code)
	}
}

// An MCP server that answers everything and writes down what it parsed, one JSON line per message.
//
// Reads as Go servers do: bufio and encoding/json into structs, which folds the case of keys and
// keeps the last of two. Every value of a line counts, since a json.Decoder would read on.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

type message struct {
	ID     json.RawMessage `json:"id"`
	Method *string         `json:"method"`
	Params struct {
		Name      any `json:"name"`
		URI       any `json:"uri"`
		RequestID any `json:"requestId"`
		TaskID    any `json:"taskId"`
		Meta      struct {
			ProgressToken any `json:"progressToken"`
		} `json:"_meta"`
	} `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

type record struct {
	Object        bool    `json:"object"`
	Answer        bool    `json:"answer"`
	Method        *string `json:"method"`
	ID            any     `json:"id"`
	Name          any     `json:"name"`
	URI           any     `json:"uri"`
	RequestID     any     `json:"requestId"`
	TaskID        any     `json:"taskId"`
	ProgressToken any     `json:"progressToken"`
}

func plain(value any) any {
	switch value := value.(type) {
	case string:
		return value
	case json.Number:
		if _, err := value.Int64(); err == nil {
			return value
		}
	}
	return nil
}

func decode(raw []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	err := decoder.Decode(into)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		// The other members have been read all the same.
		return nil
	}
	return err
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "recorder:", err)
		os.Exit(1)
	}
}

func main() {
	file, err := os.OpenFile(os.Args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	check(err)
	input, output := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		line, err := input.ReadBytes('\n')
		values := json.NewDecoder(bytes.NewReader(line))
		for {
			var raw json.RawMessage
			if wrong := values.Decode(&raw); wrong != nil {
				if wrong != io.EOF {
					fmt.Fprintln(os.Stderr, "recorder: not JSON")
				}
				break
			}
			messages := []json.RawMessage{raw}
			if raw[0] == '[' {
				check(json.Unmarshal(raw, &messages))
			}
			for _, raw := range messages {
				note(file, output, raw, len(messages) == 1 && raw[0] == '{')
			}
		}
		check(output.Flush())
		if err != nil {
			return
		}
	}
}

func note(file *os.File, output io.Writer, raw json.RawMessage, object bool) {
	var read message
	check(decode(raw, &read))
	var id any
	if read.ID != nil {
		check(decode(read.ID, &id))
	}
	seen := record{
		Object: object, Answer: read.Result != nil || read.Error != nil,
		Method: read.Method, ID: plain(id),
		Name: plain(read.Params.Name), URI: plain(read.Params.URI),
		RequestID: plain(read.Params.RequestID), TaskID: plain(read.Params.TaskID),
		ProgressToken: plain(read.Params.Meta.ProgressToken),
	}
	text, err := json.Marshal(seen)
	check(err)
	_, err = file.Write(append(text, '\n'))
	check(err)
	if read.Method != nil && id != nil {
		method, err := json.Marshal(*read.Method)
		check(err)
		outcome := fmt.Sprintf(`"result":{"method":%s}`, method)
		if *read.Method == "server/discover" {
			outcome = `"error":{"code":-32601,"message":"Method not found"}`
		}
		fmt.Fprintf(output, `{"jsonrpc":"2.0","id":%s,%s}`+"\n", read.ID, outcome)
	}
}

package page

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"strings"
)

// Source is Go code of a stop, as its page shows it.
type Source struct {
	File  string
	Parts []Part
}

// Part is a piece of Go code. The style sheet colors it by its class: "keyword", "string",
// "comment", or "" for all else.
type Part struct{ Class, Text string }

// Code returns declarations of a Go file of a stop, with their comments. So a page shows the code
// that runs. A name is that of a constant, variable, type, function or method. Code panics if the
// file has no such declaration.
func Code(file, source string, names ...string) Source {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, source, parser.ParseComments)
	if err != nil {
		panic(err)
	}
	var found []string
	for _, name := range names {
		from, to := declaration(parsed, name)
		if from == token.NoPos {
			panic(fmt.Sprintf("%s declares no %s", file, name))
		}
		found = append(found, source[files.Position(from).Offset:files.Position(to).Offset])
	}
	return Source{file, parts(strings.Join(found, "\n\n"))}
}

// declaration returns where the declaration of name begins and ends.
func declaration(file *ast.File, name string) (from, to token.Pos) {
	for _, decl := range file.Decls {
		var doc *ast.CommentGroup
		declares := false
		switch d := decl.(type) {
		case *ast.FuncDecl:
			doc, declares = d.Doc, d.Name.Name == name
		case *ast.GenDecl:
			doc = d.Doc
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					declares = declares || spec.Name.Name == name
				case *ast.ValueSpec:
					declares = declares || spec.Names[0].Name == name
				}
			}
		}
		switch {
		case declares && doc != nil:
			return doc.Pos(), decl.End()
		case declares:
			return decl.Pos(), decl.End()
		}
	}
	return token.NoPos, token.NoPos
}

// parts splits code at its keywords, strings and comments.
func parts(code string) (all []Part) {
	file := token.NewFileSet().AddFile("", -1, len(code))
	var s scanner.Scanner
	s.Init(file, []byte(code), nil, scanner.ScanComments)
	done := 0
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			return append(all, Part{"", code[done:]})
		}
		var class string
		switch {
		case tok.IsKeyword():
			class = "keyword"
		case tok == token.STRING || tok == token.CHAR:
			class = "string"
		case tok == token.COMMENT:
			class = "comment"
		default:
			continue
		}
		at := file.Offset(pos)
		all = append(all, Part{"", code[done:at]}, Part{class, text})
		done = at + len(text)
	}
}

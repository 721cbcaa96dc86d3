package io.github.coatcheckgo.servlet;

import jakarta.servlet.ServletOutputStream;
import jakarta.servlet.WriteListener;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpServletResponseWrapper;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.Writer;

/** Commits the session before the first byte of the response, once. */
final class SessionResponse extends HttpServletResponseWrapper {
    private final Exchange x;
    private ServletOutputStream stream;
    private PrintWriter writer;

    SessionResponse(HttpServletResponse w, Exchange x) {
        super(w);
        this.x = x;
    }

    @Override
    public ServletOutputStream getOutputStream() throws IOException {
        if (stream == null) {
            stream = new Stream(super.getOutputStream());
        }
        return stream;
    }

    @Override
    public PrintWriter getWriter() throws IOException {
        if (writer == null) {
            writer = new PrintWriter(new BodyWriter(super.getWriter()));
        }
        return writer;
    }

    @Override
    public void flushBuffer() throws IOException {
        if (x.begin(getStatus())) {
            super.flushBuffer();
        }
    }

    @Override
    public void sendError(int status) throws IOException {
        if (x.begin(status)) {
            super.sendError(status);
        }
    }

    @Override
    public void sendError(int status, String message) throws IOException {
        if (x.begin(status)) {
            super.sendError(status, message);
        }
    }

    @Override
    public void sendRedirect(String location) throws IOException {
        if (x.begin(302)) {
            super.sendRedirect(location);
        }
    }

    @Override
    public void sendRedirect(String location, int status) throws IOException {
        if (x.begin(status)) {
            super.sendRedirect(location, status);
        }
    }

    @Override
    public void sendRedirect(String location, boolean clearBuffer) throws IOException {
        if (x.begin(302)) {
            super.sendRedirect(location, clearBuffer);
        }
    }

    @Override
    public void sendRedirect(String location, int status, boolean clearBuffer) throws IOException {
        if (x.begin(status)) {
            super.sendRedirect(location, status, clearBuffer);
        }
    }

    @Override
    public void reset() {
        super.reset();
        stream = null;
        writer = null;
        x.afterReset();
    }

    private boolean starts() {
        return x.begin(getStatus());
    }

    private final class Stream extends ServletOutputStream {
        private final ServletOutputStream to;

        Stream(ServletOutputStream to) {
            this.to = to;
        }

        @Override
        public void write(int b) throws IOException {
            if (starts()) {
                to.write(b);
                flushCookie();
            }
        }

        @Override
        public void write(byte[] b, int from, int n) throws IOException {
            if (starts()) {
                to.write(b, from, n);
                flushCookie();
            }
        }

        @Override
        public void flush() throws IOException {
            if (starts()) {
                to.flush();
            }
        }

        @Override
        public void close() throws IOException {
            if (starts()) {
                to.close();
            }
        }

        private void flushCookie() throws IOException {
            if (x.flushCookie()) {
                to.flush();
            }
        }

        @Override
        public boolean isReady() {
            return to.isReady();
        }

        @Override
        public void setWriteListener(WriteListener listener) {
            to.setWriteListener(listener);
        }
    }

    private final class BodyWriter extends Writer {
        private final PrintWriter to;

        BodyWriter(PrintWriter to) {
            this.to = to;
        }

        @Override
        public void write(char[] text, int from, int n) {
            if (starts()) {
                to.write(text, from, n);
                if (x.flushCookie()) {
                    to.flush();
                }
            }
        }

        @Override
        public void write(String text, int from, int n) {
            if (starts()) {
                to.write(text, from, n);
                if (x.flushCookie()) {
                    to.flush();
                }
            }
        }

        @Override
        public void flush() {
            if (starts()) {
                to.flush();
            }
        }

        @Override
        public void close() {
            if (starts()) {
                to.close();
            }
        }
    }
}

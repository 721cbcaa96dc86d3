package io.github.coatcheckgo.session;

import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;

/** A proxy whose connections can go silent: nothing passes any more, and nothing tells of it. */
final class SilentProxy implements AutoCloseable {
    private final ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    private final List<Link> links = new CopyOnWriteArrayList<>();
    private final int to;

    private static final class Link {
        final Socket a;
        final Socket b;
        volatile boolean silent;

        Link(Socket a, Socket b) {
            this.a = a;
            this.b = b;
        }
    }

    SilentProxy(int to) throws IOException {
        this.to = to;
        run(() -> {
            while (true) {
                Socket a = listener.accept();
                Link link = new Link(a, new Socket(InetAddress.getLoopbackAddress(), to));
                links.add(link);
                run(() -> pump(link, link.a, link.b));
                run(() -> pump(link, link.b, link.a));
            }
        });
    }

    private interface Body {
        void run() throws IOException;
    }

    private static void run(Body body) {
        Thread t = new Thread(() -> {
            try {
                body.run();
            } catch (IOException e) {
                // It is closed.
            }
        });
        t.setDaemon(true);
        t.start();
    }

    private static void pump(Link link, Socket from, Socket to) throws IOException {
        InputStream in = from.getInputStream();
        byte[] buffer = new byte[8192];
        for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
            if (!link.silent) {
                to.getOutputStream().write(buffer, 0, n);
            }
        }
        to.close();
    }

    String url() {
        return "redis://127.0.0.1:" + listener.getLocalPort();
    }

    /** Lets nothing pass on the present connections any more. New ones work. */
    void silence() {
        links.forEach(link -> link.silent = true);
    }

    @Override
    public void close() throws IOException {
        listener.close();
        for (Link link : links) {
            link.a.close();
            link.b.close();
        }
    }
}

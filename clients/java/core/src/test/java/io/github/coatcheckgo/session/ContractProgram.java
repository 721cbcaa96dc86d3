package io.github.coatcheckgo.session;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/** Speaks the step protocol of the contract suite: one JSON object a line, on stdin and stdout. */
final class ContractProgram {
    private ContractProgram() {}

    public static void main(String[] arguments) throws IOException, InterruptedException {
        PrintStream out = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), false, StandardCharsets.UTF_8);
        System.setOut(System.err); // nothing else is written there
        ExecutorService threads = Executors.newCachedThreadPool();
        try (ContractClients clients = new ContractClients();
            BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                String request = line;
                threads.submit(() -> {
                    String reply = Json.write(clients.step(Vectors.object(Json.parse(request))));
                    synchronized (out) {
                        out.print(reply + "\n");
                        out.flush();
                    }
                });
            }
            threads.shutdown();
            threads.awaitTermination(1, TimeUnit.MINUTES);
        }
    }
}

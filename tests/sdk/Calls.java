import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Calls a URL with a bearer token, so many times, and prints each status. */
class Calls {
    public static void main(String[] words) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(words[0])).header("Authorization", "Bearer " + words[1]).build();
        var client = HttpClient.newHttpClient();
        for (int left = words.length > 2 ? Integer.parseInt(words[2]) : 1; left > 0; left--) {
            int status = client.send(request, BodyHandlers.ofString()).statusCode();
            System.out.println(status);
            if (status != 200) System.exit(1);
        }
    }
}

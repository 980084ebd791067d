import AffectCore
import Foundation

/// How a song fitted a face, 1 to 5 stars.
struct Rating: Codable {
    let song: String
    let stars: Int
    let affect: Affect
    let date: Date
}

/// The ratings, a line of JSON for each, in a file of the app's documents that never leaves the device by itself.
struct Ratings {
    private let file = FileManager.default.urls(for: .documentDirectory, in: .userDomainMask)[0]
        .appendingPathComponent("ratings.jsonl")

    func add(_ rating: Rating) throws {
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .iso8601
        if !FileManager.default.fileExists(atPath: file.path) { try Data().write(to: file) }
        let handle = try FileHandle(forWritingTo: file)
        defer { try? handle.close() }
        try handle.seekToEnd()
        try handle.write(contentsOf: encoder.encode(rating) + Data("\n".utf8))
    }
}
